"""Compare what the emulated ARM userland found with what this machine did; exit code 1 where they differ.

example: python packaging/arm64/compare.py bench.json host/person.keypoints.json arm/person.keypoints.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

#: Pixels; the files hold two digits.
TOLERANCE = 1e-4
#: Of a score, a heatmap's peak: the last layer rounds as its processor does. The files hold four digits.
SCORE_TOLERANCE = 1.5e-4


def _joints(listing: Any) -> list[tuple[str, float, float, float]]:
    return [(j["name"], j["x"], j["y"], j["score"]) for person in listing["people"] for j in person["keypoints"]]


def differences(bench: Any, predictions: list[Any], evaluations: list[Any]) -> list[str]:
    """One sentence for everything that is not as it must be."""
    found = [
        f"bench ran {run['runtime']} with the delegate {run['delegate']}, not litert with neon"
        for run in bench["results"]
        if (run["runtime"], run["delegate"]) != ("litert", "neon")
    ]
    here, there = (_joints(listing) for listing in predictions)
    if [joint[0] for joint in here] != [joint[0] for joint in there] or not here:
        found.append("predict found other joints")
    for (name, *a), (_, *b) in zip(here, there, strict=False):
        if max(abs(a[0] - b[0]), abs(a[1] - b[1])) > TOLERANCE or abs(a[2] - b[2]) > SCORE_TOLERANCE:
            found.append(f"predict has {name} at {a} here and at {b} there")
    if evaluations:
        here, there = ({key: e[key] for key in ("metric", "value", "people", "per_joint")} for e in evaluations)
        if here != there or not here["people"]:
            found.append(f"eval measured {here} here and {there} there")
    return found


def video_differences(video: Any, picture: Any, frames: int) -> list[str]:
    """One sentence for everything that a video's listing lacks: its frames, or joints that the picture's has."""
    found = []
    if len(video["frames"]) != frames:
        found.append(f"predict wrote {len(video['frames'])} frames of the video, not {frames}")
    names = [joint["name"] for joint in picture["people"][0]["keypoints"]]
    for frame in video["frames"]:
        if not frame["people"] or [joint[0] for joint in _joints(frame)] != names * len(frame["people"]):
            found.append(f"predict has other joints in the video's frame {frame['frame']}")
    return found


def main() -> int:
    """0 where all agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, help="of the userland")
    parser.add_argument("host_prediction", type=Path)
    parser.add_argument("arm_prediction", type=Path)
    parser.add_argument("evaluations", type=Path, nargs="*", help="this machine's and the userland's")
    parser.add_argument("--video", type=Path, help="the userland's listing of a video of one person")
    parser.add_argument("--frames", type=int, default=0, help="that it must have")
    files = parser.parse_args()
    bench, *rest = (
        json.loads(path.read_text())
        for path in (files.bench, files.host_prediction, files.arm_prediction, *files.evaluations)
    )
    found = differences(bench, rest[:2], rest[2:])
    if files.video is not None:
        found += video_differences(json.loads(files.video.read_text()), rest[1], files.frames)
    for sentence in found:
        print(f"compare: {sentence}.", file=sys.stderr)
    if not found:
        joints = len(_joints(rest[0]))
        people = f", eval agrees on {rest[2]['people']} people" if rest[2:] else ""
        print(f"ARM agrees with this machine: delegate {bench['results'][0]['delegate']}, {joints} joints{people}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

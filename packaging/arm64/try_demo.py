"""Start a demo, ask it for its page and for the joints of a picture, and end it as Ctrl-C does; exit code 1 if not.

example: python packaging/arm64/try_demo.py person.png arm/person.keypoints.json -- bihrnet-edge demo model.onnx
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

#: Seconds for an answer, and for ending; an emulator takes its time.
PATIENCE_S = 120


def problems(command: list[str], picture: Path, people: list[Any]) -> list[str]:
    """One sentence for everything that is not as it must be.

    Args:
        command: of the demo; a free port and no browser are added.
        picture, people: whose first the demo must find, as ``predict`` wrote it.
    """
    found = []
    # Not ignored, as a shell has it for what runs in the background.
    demo = subprocess.Popen(
        [*command, "--port", "0", "--no-browser"], stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        assert demo.stdout is not None
        line = demo.stdout.readline()
        address = re.search(r"http://\S+", line)
        if address is None:
            return [f"the demo said {line!r} and no address"]
        url = address[0].rstrip("/")
        with urlopen(f"{url}/", timeout=PATIENCE_S) as answer:
            if b"<html" not in answer.read():
                found.append("the demo's page is none")
        box = ",".join(str(value) for value in people[0]["box"])
        request = Request(f"{url}/predict?box={box}", picture.read_bytes(), method="POST")
        with urlopen(request, timeout=PATIENCE_S) as answer:
            for result in json.load(answer)["results"]:
                if result["person"]["keypoints"] != people[0]["keypoints"]:
                    found.append("the demo found other joints than predict")
        demo.send_signal(signal.SIGINT)
        if code := demo.wait(PATIENCE_S):
            found.append(f"the demo ended with the code {code}")
    finally:
        demo.kill()
        demo.wait()
    return found


def main() -> int:
    """0 where the demo is fine."""
    own, command = sys.argv[1:], []
    if "--" in own:
        own, command = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("prediction", type=Path, help="of predict, for the same picture and model")
    arguments = parser.parse_args(own)
    if not command:
        parser.error("no command was given after --")
    found = problems(command, arguments.picture, json.loads(arguments.prediction.read_text())["people"])
    for sentence in found:
        print(f"demo: {sentence}.", file=sys.stderr)
    if not found:
        print("the demo serves its page, finds predict's joints and ends when told to")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

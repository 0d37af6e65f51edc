"""The report: sound HTML by a strict parser, the same structure whatever the names hold, and pictures that decode."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from bihrnet_edge.calibration.bootstrap import paired_bootstrap, paired_bootstrap_of
from bihrnet_edge.calibration.differences import keypoint_differences
from bihrnet_edge.calibration.html_report import ArtifactCheck, CheckReport, ModelFacts, render, write_report
from bihrnet_edge.calibration.report_pictures import EDGES, WorstImage, histogram, picture_pair
from bihrnet_edge.errors import UserError
from bihrnet_edge.html import Markup, escaped, tag
from bihrnet_edge.pose.draw import LEFT, RIGHT
from bihrnet_edge.pose.keypoints import LSP, KeypointSet

BODY = KeypointSet("body", ("left_hand", "right_hand", "head"), ((0, 2), (1, 2)))
VOID = {"meta", "img"}


class StrictParser(HTMLParser):
    """Collects structure and text; an element that is not closed, or closed out of turn, is an error."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[dict[str, str]] = []
        self.text: list[str] = []
        self.declarations: list[str] = []

    def handle_decl(self, decl: str) -> None:
        assert not self.tags
        self.declarations.append(decl)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = tuple(name for name, _ in attrs)
        assert len(set(names)) == len(names)
        assert all(value is not None for _, value in attrs)
        self.tags.append((tag, names))
        self.attributes.append({name: str(value) for name, value in attrs})
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    handle_pi = unknown_decl = handle_comment


def parse(document: str) -> StrictParser:
    parser = StrictParser()
    parser.feed(document)
    parser.close()
    assert parser.open == []
    assert parser.declarations == ["doctype html"]
    return parser


def report_of(
    name: str = "small", joints: KeypointSet = BODY, artifacts: int = 2, pictures: int = 2, **changes: Any
) -> CheckReport:
    rng = np.random.default_rng(0)
    counted, images = np.ones((20, len(joints)), bool), np.arange(20) // 2
    checks = []
    for index in range(artifacts):
        facts = ModelFacts(f"{name} {index}", f"out/{name}.tflite", "ab" * 32, 2_970_000, f"litert {name}")
        drop = paired_bootstrap(counted, rng.random(counted.shape) < 0.9, counted, images, resamples=50)
        points = rng.uniform(0, 50, (20, len(joints), 2))
        moved = points + rng.exponential(2, points.shape)
        differences = keypoint_differences(points, moved, np.full(20, 30), np.ones(20))
        checks.append(ArtifactCheck(facts, drop, differences, passed=index == 0))
    picture = rng.integers(0, 255, (60, 40, 3)).astype(np.uint8)
    pose = np.concatenate([rng.uniform(5, 35, (1, len(joints), 2)), np.ones((1, len(joints), 1))], axis=2)
    worst = [
        WorstImage(f"{name}.jpg", f"{name} px", name, picture, pose, pose + np.array([3, 0, 0]))
        for _ in range(pictures)
    ]
    report = CheckReport(
        metric="PCK@0.2",
        keypoints=joints,
        data={"annotation file": name, f"about {name}": "images"},
        reference=ModelFacts(name, name, name, 1, name),
        artifacts=checks,
        subset=f"{name}.json",
        left_out=[name],
        skipped={f"crowd {name}": 3},
        worst=worst,
        max_drop=1.0,
        version="0.1.0",
    )
    return dataclasses.replace(report, **changes)


def text_of(document: str) -> str:
    return re.sub(r"\s+", " ", " ".join(parse(document).text))


def test_states_the_facts() -> None:
    report = report_of()
    text = text_of(render(report))
    first = report.artifacts[0].drop
    for expected in (
        "small: check of 2 artifacts",
        "1 artifact loses more than the limit of 1 point.",
        "20 people in 10 images; the interval is from 50 paired resamples of whole images.",
        "95 % interval",
        f"{first.artifact:.1f}",
        f"+{first.drop.value:.1f}",
        f"{first.drop.high:+.1f}",
        "2.97 MB",
        "ab" * 32,
        "litert small",
        "held-out subset small.json",
        "joints compared (3) left_hand, right_hand, head",
        "joints left out (1) small",
        "skipped: crowd small 3",
        "60 keypoints lie within a quarter of a heatmap pixel",
        "passed",
        "failed",
        "bihrnet-edge 0.1.0",
    ):
        assert expected in text, expected
    assert "nan" not in text


def test_verdicts() -> None:
    good = [dataclasses.replace(check, passed=True) for check in report_of().artifacts]
    assert "Every artifact stays within the limit of 1 point." in text_of(render(report_of(artifacts=0)))
    assert "Every artifact stays within the limit of 0.5 points." in text_of(
        render(dataclasses.replace(report_of(), artifacts=good, max_drop=0.5))
    )
    assert "No limit was set" in text_of(render(report_of(max_drop=None)))


def test_what_is_not_known_is_a_dash() -> None:
    drop = paired_bootstrap(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3)), [0, 1])
    nothing = keypoint_differences(np.full((2, 3, 2), np.nan), np.zeros((2, 3, 2)), [math.nan] * 2, [1, 1])
    check = ArtifactCheck(report_of().artifacts[0].facts, drop, nothing)
    report = dataclasses.replace(report_of(subset=None, skipped={}, left_out=(), worst=()), artifacts=[check])
    text = text_of(render(report))
    assert "– to –" in text
    assert "nan" not in text
    assert "everyone in the annotation file" in text
    assert "skipped nobody" in text
    assert "6 are not finite" in text


def test_a_metric_without_joints() -> None:
    drop = paired_bootstrap_of(lambda chosen: (float(len(chosen)), 1.0), [0, 1], resamples=5)
    check = dataclasses.replace(report_of().artifacts[0], drop=drop)
    parser = parse(render(dataclasses.replace(report_of(), artifacts=[check])))
    assert "mean px" in parser.text


def test_stands_alone_on_any_screen() -> None:
    document = render(report_of())
    parser = parse(document)
    assert not {"script", "link", "iframe", "object", "form"} & {name for name, _ in parser.tags}
    for attributes in parser.attributes:
        for key in ("src", "href"):
            assert attributes.get(key, "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert not [key for key in attributes if key.startswith("on")]
    assert "url(" not in document
    assert "@import" not in document
    metas = [attributes for (name, _), attributes in zip(parser.tags, parser.attributes, strict=True) if name == "meta"]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    assert any(attributes.get("http-equiv") == "Content-Security-Policy" for attributes in metas)
    assert "prefers-color-scheme:dark" in document
    assert parser.tags[0] == ("html", ("lang",))
    names = [name for name, _ in parser.tags]
    assert (names.count("title"), names.count("h1"), names.count("body")) == (1, 1, 1)
    assert document.index("<meta charset") < 1024
    # Wide tables scroll by themselves; the page does not.
    assert document.count("<table") == document.count('<div class="scroll">')


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='x",
    "</title></style><!-- ",
    "&amp;&#60;&lt;",
    "]]><![CDATA[",
    "\udcff.jpg\x00\x1b[31m",
    "\ufffe\U0001ffff",
    "{}%s{0}",
]


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(HOSTILE) | st.text() | st.text("<>&\"'/!-=x ", min_size=1))
def test_hostile_names_stay_text(name: str) -> None:
    joints = KeypointSet("k", (f"left_{name}", f"right_{name}", f"{name}!"))
    document = render(report_of(name, joints, artifacts=1, pictures=1))
    hostile = parse(document)
    assert hostile.tags == parse(render(report_of(artifacts=1, pictures=1))).tags
    document.encode()  # no half of a surrogate pair is left
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", document)
    if name.isprintable() and name.strip():
        shown = [attributes["alt"] for attributes in hostile.attributes if "alt" in attributes]
        assert shown[0] == f"{name}.jpg, joints of the reference"
        assert name in "".join(hostile.text)


@given(st.text() | st.text("\r\n\t\x0c\x7f\x85\ufdd0\U0010ffff<"))
def test_escaped_text_comes_back_but_for_what_html_forbids(text: str) -> None:
    parser = StrictParser()
    parser.feed(tag("p", text, title=text))
    parser.close()
    allowed = "".join(
        "\N{REPLACEMENT CHARACTER}"
        if (ord(c) < 32 and c not in "\t\n") or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000
        or 0xFDD0 <= ord(c) <= 0xFDEF or ord(c) & 0xFFFE == 0xFFFE
        else c
        for c in text
    )  # fmt: skip
    assert "".join(parser.text) == allowed
    assert parser.attributes[0].get("title", "") == allowed
    assert escaped(Markup("<b>")) == "<b>"


@given(st.lists(st.floats(0, 200) | st.just(math.nan) | st.sampled_from(EDGES)))
def test_histogram_counts_every_distance(distances: list[float]) -> None:
    parser = StrictParser()
    parser.feed(histogram(np.array(distances, np.float64)))
    labels = [text.strip() for text in parser.text if text.strip()]
    bounds = (-1.0, *EDGES, math.inf)
    known = [value for value in distances if not math.isnan(value)]
    for index in range(len(EDGES) + 1):
        count = sum(bounds[index] < value <= bounds[index + 1] for value in known)
        assert labels[2 * index + 1] == f"{count} ({100 * count / max(len(known), 1):.1f} %)"
    bars = [float(a["width"]) for (name, _), a in zip(parser.tags, parser.attributes, strict=True) if name == "rect"]
    assert len(bars) == len(EDGES) + 1
    assert max(bars) == (300 if known else 0)


def pictures_in(markup: str) -> list[NDArray[np.uint8]]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', markup)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data, validate=True)))) for data in found]


def near(image: NDArray[np.uint8], x: float, y: float, color: tuple[int, int, int]) -> bool:
    patch = image[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].reshape(-1, 3).astype(int)
    return bool((np.abs(patch - color).max(axis=1) < 60).any())


@pytest.mark.parametrize("box", [None, (10.0, 20.0, 20.0, 40.0)])
def test_joints_are_drawn_where_they_are(box: tuple[float, float, float, float] | None) -> None:
    image = np.full((80, 60, 3), 128, np.uint8)
    reference = np.array([[[14.0, 30, 1], [26, 30, 1], [20, 50, 1]]])
    artifact = reference + np.array([0, 5, 0])
    shown = pictures_in(picture_pair(WorstImage("a.jpg", "", "b", image, reference, artifact, box), BODY))
    left, top, side = (0, 0, 80) if box is None else (7, 15, 50)  # the box with an eighth of its size on every side
    zoom = 400 / side
    for picture, poses in zip(shown, (reference, artifact), strict=True):
        assert max(picture.shape) == 400
        for (x, y, _), color in zip(poses[0][:2], (LEFT, RIGHT), strict=True):
            assert near(picture, (x - left + 0.5) * zoom - 0.5, (y - top + 0.5) * zoom - 0.5, color)
    assert not near(shown[0], (14 - left + 0.5) * zoom - 0.5, (35 - top + 0.5) * zoom - 0.5 + 8, LEFT)


@pytest.mark.parametrize("box", [(500.0, 0, 5, 5), (0, 0, math.nan, 5), (0, 0, 0, 0), (-50, -50, 500, 500)])
def test_boxes_outside_the_image_show_all_of_it(box: tuple[float, float, float, float]) -> None:
    image = np.full((30, 60, 3), 99, np.uint8)
    poses = np.full((1, 3, 3), np.nan)
    shown = pictures_in(picture_pair(WorstImage("a", "", "b", image, poses, poses, box), BODY))
    assert [picture.shape for picture in shown] == [(200, 400, 3)] * 2


@pytest.mark.parametrize("value", [1e6, 1e30, -1e30, math.inf, math.nan])
def test_joints_far_away_do_not_stop_the_report(value: float) -> None:
    image = np.zeros((30, 20, 3), np.uint8)
    poses = np.array([[[5.0, 5, 1], [value, 6, 1], [7, value, 1]]])
    assert len(pictures_in(picture_pair(WorstImage("a", "", "b", image, poses, poses), BODY))) == 2


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(path, report_of())
    parse(path.read_text(encoding="utf-8"))
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot"):
        write_report(tmp_path / "file" / "report.html", report_of())


def test_size_of_a_full_report() -> None:
    """14 joints, three artifacts, a dozen pictures of noise, which JPEG compresses worst."""
    document = render(report_of(joints=LSP, artifacts=3, pictures=12))
    assert len(document) < 4e6

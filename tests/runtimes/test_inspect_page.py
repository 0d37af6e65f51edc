"""The report of ``inspect --html``: layers that add up, text that stays text, and what is not known is said."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from helpers import run
from hypothesis import given, settings
from hypothesis import strategies as st

from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.inspect import ArtifactInfo, TensorInfo, inspect_artifact
from bihrnet_edge.runtimes.inspect_page import measure, render, write_inspection
from bihrnet_edge.runtimes.layer_plots import columns_of, lanes_of, time_by_kind
from bihrnet_edge.runtimes.layers import BINARY, FLOAT, INT8, KINDS, Layer, bytes_by_kind, macs_by_kind, total
from bihrnet_edge.runtimes.profile import Profile, Step
from bihrnet_edge.runtimes.work import Work

Make = Callable[..., Path]
STEPS = (
    Step("load", "load", 3, 24, 16, 0, 0.5, 0.0, 0.0),
    Step("conv 3x3 <i>", "conv", 64, 12, 8, 10**6, 2.0, 0.0, 0.0),
    Step("bconv 3x3", "bconv", 32, 6, 4, 10**6, 3.0, 2.0, 0.5),
)
PROFILE = Profile("neon", 1, 9, 10, 10, 7.0, 6.0, STEPS)


class Page(HTMLParser):
    """Checks that elements close in order and that nothing runs or loads; collects bars and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.bars: list[dict[str, str | None]] = []
        self.titles: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "img", "i", "b")
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)
        if tag == "meta":
            return
        if tag == "rect":
            self.bars.append(dict(attrs))
        if tag == "title" and self.open[-1] == "rect":
            self.titles.append("")
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open[-2:] == ["rect", "title"]:
            self.titles[-1] += data


def stored_bytes(path: Path) -> int:
    """Bytes of the buffers that operators read, by TFLite's own reader."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph = model.subgraphs[0]
    read = {graph.tensors[i].buffer for operator in graph.operators for i in operator.inputs if i >= 0}
    return sum(len(model.buffers[i].data) for i in read if model.buffers[i].data is not None)


def check_sums(info: ArtifactInfo) -> tuple[Layer, ...]:
    assert info.layers is not None
    assert info.work == total(info.layers)
    assert sum(macs_by_kind(info.layers).values()) == info.work.binary_macs + info.work.float_macs
    for index, layer in enumerate(info.layers):
        assert all(0 <= source < index for source in layer.reads or ())
    return info.layers


def test_layers_of_lce(lce_model: tuple[Path, Any]) -> None:
    info = inspect_artifact(lce_model[0])
    layers = check_sums(info)
    assert len(layers) == sum((info.ops or {}).values())
    assert sum(bytes_by_kind(layers).values()) == stored_bytes(lce_model[0]) < info.size_bytes
    multiply = [layer for layer in layers if layer.macs]
    assert [layer.kind for layer in multiply] == [FLOAT, BINARY, BINARY, FLOAT]
    assert [layer.kernel for layer in multiply] == [(3, 3), (3, 3), (3, 3), (1, 1)]
    assert [layer.shape for layer in multiply] == [(1, 12, 8, 64), (1, 12, 8, 32), (1, 6, 4, 32), (1, 6, 4, 3)]
    assert list(columns_of(layers).values()) == [0, 1, 2, 3]
    assert list(lanes_of(layers, list(columns_of(layers))).values()) == [0, 0, 1, 1]


@pytest.mark.parametrize("int8", [False, True])
def test_layers_of_tflite(make_tflite: Make, int8: bool) -> None:
    path = make_tflite(int8=int8)
    (layer,) = check_sums(inspect_artifact(path))
    assert (layer.kind, layer.kernel, layer.shape) == (INT8 if int8 else FLOAT, (4, 4), (1, 6, 4, 3))
    assert layer.constant_bytes == stored_bytes(path)


def test_layers_of_checkpoint_and_onnx_agree(tiny_checkpoint: Path, tiny_onnx: Path) -> None:
    ours, theirs = (check_sums(inspect_artifact(path)) for path in (tiny_checkpoint, tiny_onnx))

    def products(layers: tuple[Layer, ...]) -> list[Any]:
        return sorted((y.macs, y.kind, y.kernel, y.shape) for y in layers if y.macs)

    assert products(ours) == products(theirs)
    from bihrnet_edge.model.checkpoint import load_checkpoint

    network = load_checkpoint(tiny_checkpoint).build()
    assert total(ours).binary_parameters + total(ours).float_parameters == sum(p.numel() for p in network.parameters())
    assert all(layer.reads is None for layer in ours)
    columns = columns_of(theirs)
    assert len(set(columns.values())) < len(columns)  # branches lie beside each other


@pytest.mark.parametrize("kind", ["lce", "tflite", "onnx", "checkpoint"])
def test_every_format_has_a_picture(
    kind: str, lce_model: tuple[Path, Any], make_tflite: Make, tiny_onnx: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    path = {"lce": lce_model[0], "tflite": make_tflite(), "onnx": tiny_onnx, "checkpoint": tiny_checkpoint}[kind]
    html, listing = tmp_path / "new" / "inside.html", tmp_path / "inside.json"
    assert run("inspect", path, "--html", html, "--json", listing, "--no-time") == 0
    page, values = Page(html.read_text()), json.loads(listing.read_text())
    multiply = [layer for layer in values["layers"] if sum(v for k, v in layer["work"].items() if k.endswith("macs"))]
    pictures = 1 if kind == "checkpoint" else 2
    assert len([text for text in page.titles if " MACs" in text]) == pictures * len(multiply)
    assert "Not measured: --no-time was given." in page.text
    assert ("not known of a checkpoint" in page.text) == (kind == "checkpoint")


def test_profile_is_drawn(lce_model: tuple[Path, Any]) -> None:
    info = inspect_artifact(lce_model[0])
    profile = measure(info, runs=2)
    page = Page(render(info, profile))
    for step in profile.steps:
        assert any(text.startswith(step.name) for text in page.titles)
    assert f"{profile.run_ms:.2f} ms an inference" in page.text
    assert sum(time_by_kind(profile, FLOAT).values()) == pytest.approx(profile.run_ms)


def test_time_goes_to_its_kind() -> None:
    assert time_by_kind(PROFILE, INT8) == {INT8: 2.0, BINARY: 2.5, "other": 2.5}


@pytest.mark.parametrize("fixture", ["make_tflite", "make_onnx"])
def test_no_delegate_no_time(fixture: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = request.getfixturevalue(fixture)()
    with pytest.raises(UserError, match=r"runs \.lce\.tflite files; this is an? "):
        measure(inspect_artifact(path))
    assert run("inspect", path, "--html", tmp_path / "inside.html") == 0
    assert "Not measured: time by step is the native delegate's" in Page((tmp_path / "inside.html").read_text()).text


layer_lists = st.lists(
    st.builds(
        Layer,
        name=st.text(max_size=12),
        op=st.text(max_size=8),
        kind=st.sampled_from(KINDS),
        shape=st.none() | st.lists(st.integers(0, 70), max_size=5).map(tuple),
        kernel=st.none() | st.tuples(st.integers(1, 7), st.integers(1, 7)),
        work=st.builds(Work, *[st.integers(0, 10**10)] * 4),
        constant_bytes=st.none() | st.integers(0, 10**7),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(layer_lists, st.data())
def test_any_layers_are_drawn_inside_their_picture(layers: list[Layer], data: st.DataObject) -> None:
    known = [
        dataclasses.replace(
            layer, reads=tuple(sorted(data.draw(st.sets(st.integers(0, i - 1), max_size=3)))) if i else ()
        )
        for i, layer in enumerate(layers)
    ]
    name = data.draw(st.text(max_size=20))
    for some in (layers, known):
        info = ArtifactInfo(
            "a<b>.tflite", "tflite", 10**6, (TensorInfo(name, (1, -1), "x"),), (), None, {}, total(some),
            layers=tuple(some),
        )  # fmt: skip
        text = render(info, PROFILE)
        page = Page(text)
        assert len([title for title in page.titles if " MACs" in title]) >= sum(layer.macs > 0 for layer in some)
        for bar in page.bars:
            if "y" in bar:
                assert float(bar["y"] or "") >= 0
                assert float(bar["x"] or "") >= 0
                assert float(bar["width"] or "") >= 0
        assert "a<b>.tflite" in page.text


def test_text_of_the_file_stays_text(make_tflite: Make) -> None:
    info = inspect_artifact(make_tflite())
    assert info.layers is not None
    evil = '"><script>alert(1)</script><rect onload="x'
    layers = (dataclasses.replace(info.layers[0], name=evil, op=evil),)
    page = Page(render(dataclasses.replace(info, path=evil, layers=layers, notes=(evil,)), evil))
    assert page.text.count("alert(1)") >= 5
    assert re.search(r"onload", page.text)


def test_columns_are_longest_ways() -> None:
    def layer(macs: int, *reads: int) -> Layer:
        return Layer("", "", FLOAT, (1, 2, 2, 1), None, Work(0, macs, 0, 0), 0, reads)

    #      0 -> 1 -> 2(add) -> 4
    #      0 ------> 2;  0 -> 3 -> 4
    layers = [layer(1), layer(1, 0), layer(0, 0, 1), layer(1, 0), layer(1, 2, 3)]
    assert columns_of(layers) == {0: 0, 1: 1, 3: 1, 4: 2}


def test_a_path_that_cannot_be_written_is_one_sentence(
    make_tflite: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for bad in (tmp_path, tmp_path / "file" / "x.html"):
        assert run("inspect", make_tflite(), "--html", bad) == 2
        error = capsys.readouterr().err
        assert error.startswith("bihrnet-edge: cannot ")
        assert error.count("\n") == 1
    with pytest.raises(UserError, match="cannot"):
        write_inspection(tmp_path / "file" / "x.html", inspect_artifact(make_tflite()), "no")

"""Graphs: what stands between binary operators, several images, other sizes, threads, kernels and interpreters."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from delegate_runs import Array, assert_close, invoke, open_interpreter, profile_of, run_delegate
from lce_models import Bconv, GraphBuilder, random_inputs, run_lce
from random_graphs import RandomGraph

from bihrnet_edge.runtimes import delegate
from bihrnet_edge.runtimes.tflite_file import parse_tflite
from bihrnet_edge.runtimes.tflite_work import work_of


def assert_same(got: list[Array], expected: list[Array], what: object = "") -> None:
    """Equal to the bit, but for the sign of zero."""
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=str(what))


@pytest.mark.parametrize("block", range(10))
def test_random_graphs_equal_lce(block: int) -> None:
    pytest.importorskip("larq_compute_engine")
    for seed in range(block * 50, block * 50 + 50):
        drawn = RandomGraph(seed, batch=1 + seed % 3)
        model = drawn.model(operators=2 + seed % 14)
        inputs = drawn.inputs()
        got = run_delegate(model, inputs)
        assert_same(got, run_lce(model, inputs), f"seed {seed}")
        for options in ({"kernel": "scalar"}, {"threads": 2}, {"threads": 3}):
            assert_same(run_delegate(model, inputs, **options), got, f"seed {seed}, {options}")


def chain(channels: int = 64, size: tuple[int, int] = (13, 9), batch: int = 1) -> bytes:
    """Binary convolutions with a PReLU, a residual and a stride, in real numbers; no size is written into it."""
    rng = np.random.default_rng(0)
    graph = GraphBuilder()
    x = graph.input((batch, *size, channels))
    slopes = rng.uniform(-0.2, 0.5, (1, 1, channels))
    for index in range(4):
        case = Bconv(channels_in=channels, channels_out=channels, seed=index, stride=(2, 2) if index == 2 else (1, 1))
        y = graph.binary("PRELU", case.add(graph, graph.quantize(x)), graph.constant(slopes, "float32"))
        x = y if index == 2 else graph.binary("ADD", x, y)
    return graph.finish(graph.pool("AVERAGE_POOL_2D", x, (2, 2), (2, 2), "VALID"))


def test_a_batch_is_its_images() -> None:
    images = random_inputs(chain(batch=3), 1)[0]
    (together,) = run_delegate(chain(batch=3), [images])
    for index, image in enumerate(images):
        assert_same([together[index : index + 1]], run_delegate(chain(), [image[None]]))


def fused(size: tuple[int, int], channels: int, reader: str) -> bytes:
    """Maps of a half, a quarter and an eighth added to a whole one, and another reader of what was resized."""
    graph = GraphBuilder()
    x = graph.input((1, *size, channels))
    signs = graph.quantize(x)
    total = Bconv(channels_in=channels, channels_out=channels, kernel=(1, 1)).add(graph, signs)
    outputs: list[int] = []
    enlarged: list[int] = []
    for seed, stride in enumerate((2, 4, 8)):
        case = Bconv(channels_in=channels, channels_out=channels, seed=seed, kernel=(1, 1), stride=(stride, stride))
        resized = graph.resize_nearest(case.add(graph, signs), size)
        total = graph.binary("ADD", total, resized)
        if reader == "subtract":
            outputs.append(graph.binary("SUB", resized, x))
        if reader == "multiply":
            outputs.append(graph.binary("MUL", x, resized))
        if reader == "maximum":
            outputs.append(graph.binary("MAXIMUM", resized, x))
        if reader == "concat":
            outputs.append(graph.concat([resized, total]))
        if reader == "slice":
            outputs.append(graph.binary("ADD", graph.channels(resized, 3, 11), graph.channels(x, 1, 9)))
        if reader == "itself":
            outputs.append(graph.binary("ADD", resized, resized))
        if reader == "another" and enlarged:
            outputs.append(graph.binary("ADD", resized, enlarged[-1]))
        if reader == "output":
            outputs.append(resized)
        enlarged.append(resized)
    scaled = graph.binary("MUL", total, graph.constant(np.full(channels, 0.25), "float32"))
    last = Bconv(channels_in=channels, channels_out=channels).add(graph, graph.quantize(scaled))
    return graph.finish(scaled, last, *outputs)


@pytest.mark.parametrize(
    "reader", ["nobody", "subtract", "multiply", "maximum", "concat", "slice", "itself", "another", "output"]
)
@pytest.mark.parametrize("size", [(16, 24), (13, 9), (33, 50)])
def test_resized_operands(reader: str, size: tuple[int, int]) -> None:
    pytest.importorskip("larq_compute_engine")
    for channels in (12, 33):
        model = fused(size, channels, reader)
        inputs = random_inputs(model)
        got = run_delegate(model, inputs)
        for one, expected in zip(got, run_lce(model, inputs), strict=True):
            assert_close(one, expected)
        for options in ({"kernel": "scalar"}, {"threads": 2}, {"threads": 3}):
            assert_same(run_delegate(model, inputs, **options), got, options)


def test_a_residual_in_another_order_too() -> None:
    """Its planes must not become the result's while the other half of the channels still reads them."""
    pytest.importorskip("larq_compute_engine")
    graph = GraphBuilder()
    x = graph.input((1, 9, 7, 64))
    case = Bconv(channels_in=64, channels_out=64)
    turned = graph.concat([graph.channels(x, 32, 64), graph.channels(x, 0, 32)])
    total = graph.binary("ADD", graph.binary("ADD", case.add(graph, graph.quantize(x)), turned), x)
    model = graph.finish(total)
    inputs = random_inputs(model)
    for got, expected in zip(run_delegate(model, inputs), run_lce(model, inputs), strict=True):
        assert_close(got, expected)


def test_resized_operands_are_no_steps() -> None:
    kinds = [
        {step["kind"] for step in profile_of(model, random_inputs(model))["regions"][0]["steps"]}
        for model in (fused((16, 24), 12, "nobody"), fused((16, 24), 12, "output"))
    ]
    assert "resize" not in kinds[0]
    assert "resize" in kinds[1]


@pytest.mark.parametrize("threads", [1, 2])
def test_resized_inputs(threads: int) -> None:
    """Larger, smaller, more of them, and back, in one interpreter."""
    interpreter = open_interpreter(chain(), threads)
    index = interpreter.get_input_details()[0]["index"]
    for batch, height, width in ((1, 29, 31), (2, 4, 5), (1, 13, 9), (4, 3, 70), (1, 13, 9)):
        interpreter.resize_tensor_input(index, (batch, height, width, 64))
        interpreter.allocate_tensors()
        model = chain(size=(height, width), batch=batch)
        inputs = random_inputs(model, height)
        assert_same(invoke(interpreter, inputs), run_delegate(model, inputs))


def test_kernels_and_threads_give_the_same_bits() -> None:
    for channels in (3, 32, 70):
        model = chain(channels, (21, 17), 2)
        inputs = random_inputs(model, channels)
        expected = [output.tobytes() for output in run_delegate(model, inputs)]
        for threads in (1, 2, 3, 8):
            for kernel in (None, "scalar"):
                got = run_delegate(model, inputs, threads, kernel=kernel)
                assert [output.tobytes() for output in got] == expected, (channels, threads, kernel)


def test_numbers_too_small_to_be_normal_do_not_depend_on_the_thread() -> None:
    """A runtime may have the caller's processor flush them to zero, and only the caller's."""
    graph = GraphBuilder()
    x = graph.input((1, 40, 40, 64))
    tiny = graph.binary("MUL", x, graph.constant(np.full(1, 1e-39), "float32"))
    case = Bconv(channels_in=64, channels_out=32)
    model = graph.finish(case.add(graph, graph.quantize(graph.binary("ADD", tiny, tiny))))
    inputs = random_inputs(model)
    expected = run_delegate(model, inputs, 1)
    for _ in range(5):
        for kernel in (None, "scalar"):
            assert_same(run_delegate(model, inputs, 3, kernel=kernel), expected)


def test_interpreters_in_threads_of_their_own() -> None:
    models = [chain(channels) for channels in (32, 64, 96, 64)]
    inputs = [random_inputs(model, seed) for seed, model in enumerate(models)]
    expected = [run_delegate(model, values) for model, values in zip(models, inputs, strict=True)]

    def work(index: int) -> None:
        for _ in range(5):
            interpreter = open_interpreter(models[index], threads=1 + index % 2)
            for _ in range(10):
                assert_same(invoke(interpreter, inputs[index]), expected[index])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_a_delegate_of_several_interpreters() -> None:
    """One after the other and at the same time; it stays while any of them does."""
    from ai_edge_litert.interpreter import Interpreter

    loaded, _ = delegate.load(2)
    models = [chain(32), chain(64, (30, 8))]
    interpreters = [Interpreter(model_content=model, experimental_delegates=[loaded]) for model in models]
    del loaded
    inputs = [random_inputs(model) for model in models]
    expected = [run_delegate(model, values) for model, values in zip(models, inputs, strict=True)]

    def work(index: int) -> None:
        interpreters[index].allocate_tensors()
        for _ in range(20):
            assert_same(invoke(interpreters[index], inputs[index]), expected[index])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    interpreters[0] = interpreters[1]
    inputs[0], expected[0] = inputs[1], expected[1]
    work(0)  # the delegate outlives the one that is gone


def test_runs_do_not_remember_one_another() -> None:
    model = chain()
    interpreter = open_interpreter(model, 2)
    first = random_inputs(model, 1)
    expected = invoke(interpreter, first)
    for seed in range(5):
        invoke(interpreter, random_inputs(model, seed))
        assert_same(invoke(interpreter, first), expected)


def test_one_region_with_its_profile() -> None:
    model = chain()
    profile = profile_of(model, random_inputs(model))
    assert (profile["version"], profile["threads"]) == (2, 1)
    (region,) = profile["regions"]
    file = parse_tflite(model, Path("chain"))
    assert (region["nodes"], region["runs"]) == (len(file.operators), 1)
    assert sum(step["macs"] for step in region["steps"]) == work_of(file).binary_macs
    assert 0 < sum(step["microseconds"] for step in region["steps"]) <= region["microseconds"] * 1.05
    for step in region["steps"]:
        assert 0 <= step["bconv_microseconds"] <= step["microseconds"]
        for part in ("bconv_microseconds", "scale_microseconds"):
            assert (step[part] > 0) == (step["kind"] == "bconv"), step
        assert step["name"]


def test_an_operator_in_the_middle_that_stays_with_the_runtime() -> None:
    """SOFTMAX parts the graph in two regions, whose border is an ordinary tensor."""
    graph = GraphBuilder()
    case = Bconv(channels_in=40, channels_out=40)
    x = case.add(graph, graph.quantize(graph.input((2, 6, 5, 40))))
    middle = graph.tensor(graph.shape(x))
    graph.builtin("SOFTMAX", [x], [middle], beta=1.0)
    shifted = graph.binary("SUB", middle, graph.constant(np.full(1, 1 / 40), "float32"))
    model = graph.finish(case.add(graph, graph.quantize(shifted)), x)
    inputs = random_inputs(model)
    profile = profile_of(model, inputs)
    assert len(profile["regions"]) == 2
    got = run_delegate(model, inputs)
    if pytest.importorskip("larq_compute_engine"):
        expected = run_lce(model, inputs)
        np.testing.assert_allclose(got[1], expected[1], atol=1e-5)
        assert np.corrcoef(got[0].ravel(), expected[0].ravel())[0, 1] > 0.999  # two ways to compute exp


@pytest.mark.parametrize("keep_dims", [True, False])
def test_means(keep_dims: bool) -> None:
    """A mean rounds: what stands before it is compared to the last bits."""
    pytest.importorskip("larq_compute_engine")
    graph = GraphBuilder()
    x = graph.input((2, 11, 13, 40))
    y = Bconv(channels_in=40, channels_out=21).add(graph, graph.quantize(x))
    outputs = [graph.mean(y, [1, 2], keep_dims=keep_dims)]
    outputs += [graph.pool("AVERAGE_POOL_2D", y, (3, 3), (2, 2), padding) for padding in ("SAME", "VALID")]
    model = graph.finish(*outputs)
    inputs = random_inputs(model)
    for got, expected in zip(run_delegate(model, inputs), run_lce(model, inputs), strict=True):
        assert_close(got, expected)


def test_a_dead_end() -> None:
    """Operators whose results nobody takes, behind one that stays with the runtime: a region without outputs."""
    graph = GraphBuilder()
    case = Bconv(channels_in=32, channels_out=32)
    floor = graph.unary("FLOOR", case.add(graph, graph.quantize(graph.input((1, 7, 9, 32)))))
    case.add(graph, graph.quantize(floor))
    model = graph.finish(floor)
    inputs = random_inputs(model)
    assert_same(run_delegate(model, inputs), run_lce(model, inputs))


def test_what_it_does_not_have_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    graph = GraphBuilder()
    x = graph.input((1, 4, 4, 32))
    y = graph.tensor((1, 4, 4, 1), "int32")
    graph.custom("LceFoo", [x], [y])
    with pytest.raises((RuntimeError, ValueError), match="LceFoo"):
        open_interpreter(graph.finish(y))

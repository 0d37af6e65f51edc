"""The exact form: bounded bits, the same network, and sums that do not depend on their order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bihrnet_edge.errors import UserError
from bihrnet_edge.model.binary import BinaryConv2d
from bihrnet_edge.model.checkpoint import Checkpoint, random_checkpoint
from bihrnet_edge.model.config import STEM_LIMIT, ModelConfig
from bihrnet_edge.model.exact import UNIT_VARIANCE, make_exact
from bihrnet_edge.pose.crop import normalise
from bihrnet_edge.pose.keypoints import LSP

TINY = ModelConfig(width=8, modules=(1, 1, 1), blocks=1, bottlenecks=1, keypoints=14)


def _random(seed: int = 0) -> Checkpoint:
    return random_checkpoint(TINY, name="tiny", keypoints=LSP, input_size=(64, 32), seed=seed)


def _inputs(checkpoint: Checkpoint, count: int = 2, seed: int = 0) -> torch.Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 64, 32, 3), np.uint8)
    images = normalise(pixels, checkpoint.metadata.mean, checkpoint.metadata.std)
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def test_pixels_become_eight_exact_bits() -> None:
    metadata = make_exact(_random()).metadata
    pixels = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, axis=2)
    images = normalise(pixels, metadata.mean, metadata.std)
    assert np.array_equal(images[:, 0, 0], (np.arange(256, dtype=np.float32) - 128) / 64)


def test_batchnorm_divides_by_exactly_one() -> None:
    assert np.float32(UNIT_VARIANCE) + np.float32(1e-5) == np.float32(1.0)
    # In double precision the quotient differs from 1 by less than half a float32 step.
    assert abs(1 / np.sqrt(float(np.float32(UNIT_VARIANCE)) + 1e-5) - 1) < 2**-25
    norm = torch.nn.BatchNorm2d(1).eval()
    norm.running_var.fill_(UNIT_VARIANCE)  # type: ignore[union-attr]
    x = torch.randn(1, 1, 50, 50)
    assert torch.equal(norm(x), x)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sums_are_exact(seed: int) -> None:
    """Each convolution with its bias, on the same inputs in float64, which rounds 2^29 times finer: the same values."""
    exact = make_exact(_random(seed))
    network, finer = exact.build(), exact.build().double()
    inputs: dict[str, torch.Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d) and name != "head":
            module.register_forward_hook(lambda _m, args, _o, name=name: inputs.update({name: args[0]}))
    network(_inputs(exact, seed=seed))
    assert len(inputs) > 20
    for name, x in inputs.items():
        norm = network.get_submodule(name.rpartition(".")[0] + ".bn")
        rounded = norm(network.get_submodule(name)(x))
        true = finer.get_submodule(name)(x.double()) + norm.bias.double()[:, None, None]
        assert torch.equal(rounded.double(), true), name


def test_scales_have_eight_bits_and_biases_lie_on_their_grid() -> None:
    exact = make_exact(_random())
    network = exact.build()
    units = [m for m in network.modules() if hasattr(m, "conv") and isinstance(m.conv, BinaryConv2d)]
    assert units
    for unit in units:
        scale = unit.conv.weight.double().abs().amax(dim=(1, 2, 3))
        assert torch.equal(scale, unit.conv.weight.double().abs().amin(dim=(1, 2, 3)))
        mantissa, _ = torch.frexp(scale)
        assert torch.equal(mantissa * 256, torch.round(mantissa * 256))
        # Every value that the unit can take before its PReLU is exact in float32.
        inputs = unit.conv.weight[0].numel()
        bias = unit.bn.bias.double()
        for integer in (-inputs, -inputs + 2, 0, 1, inputs):
            value = scale * integer + bias
            assert torch.equal(value.float().double(), value)


def test_stem_passes_integers_on() -> None:
    exact = make_exact(_random())
    first = exact.build().stem[0](_inputs(exact))
    assert torch.equal(first, first.round())
    assert 5 < first.abs().max() <= STEM_LIMIT


def test_the_order_of_the_input_channels_does_not_matter() -> None:
    """Permuting a convolution's inputs permutes its sums; exact sums do not notice."""
    exact = make_exact(_random(3))
    network = exact.build()
    x = network.stem(_inputs(exact))
    unit = network.stage1[0].reduce
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    expected = unit(x)
    with torch.no_grad():
        unit.sign.beta.copy_(unit.sign.beta[order])
        unit.conv.weight.copy_(unit.conv.weight[:, order])
    assert torch.equal(unit(x[:, order]), expected)
    second = network.stem[1]
    ints = network.stem[0](_inputs(exact))
    expected = second(ints)
    second.conv.weight.copy_(second.conv.weight[:, order])
    assert torch.equal(second(ints[:, order]), expected)


def test_it_is_the_same_network() -> None:
    """A random network amplifies what rounding its parameters changes; the stem and each unit stay close."""
    original = _random()
    exact = make_exact(original)
    one, two = original.build(), exact.build()
    a, b = one.stem(_inputs(original)), two.stem(_inputs(exact))
    # The last row and column see the padding, which means another grey now.
    assert np.corrcoef(a[..., :-1, :-1].flatten(), b[..., :-1, :-1].flatten())[0, 1] > 0.999
    for name in ("stage1.0.reduce", "stage2.0.branches.0.0.mix", "stage4.0.fusion.paths.0.1.step.unit"):
        first, second = one.get_submodule(name), two.get_submodule(name)
        x = torch.randn(2, first.conv.in_channels, 8, 8)
        y, z = first(x), second(x)
        assert (y - z).abs().max() < 0.02 * y.abs().max(), name


def test_only_a_binary_network_in_another_form() -> None:
    exact = make_exact(_random())
    with pytest.raises(UserError, match="already"):
        make_exact(exact)
    twin = random_checkpoint(TINY.twin(), name="t", keypoints=LSP, input_size=(64, 32), seed=0)
    with pytest.raises(UserError, match="real-valued"):
        make_exact(twin)

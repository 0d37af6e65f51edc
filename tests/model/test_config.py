from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihrnet_edge.errors import UserError
from bihrnet_edge.model.config import PRESETS, ModelConfig, preset


@given(
    width=st.integers(1, 64).map(lambda n: 2 * n),
    modules=st.tuples(*[st.integers(1, 4)] * 3),
    block=st.sampled_from(["basic", "ms"]),
    bottleneck=st.sampled_from(["plain", "ir"]),
    binary=st.booleans(),
)
def test_config_survives_its_dictionary(width: int, modules: Any, block: Any, bottleneck: Any, binary: bool) -> None:
    config = ModelConfig(width=width, modules=modules, block=block, bottleneck=bottleneck, binary=binary)
    assert ModelConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"width": 7}, "width"),
        ({"width": True}, "width"),
        ({"width": 10**9}, "width"),
        ({"modules": [1, 2]}, "modules"),
        ({"modules": [1, 2, 0]}, "modules of stage 4"),
        ({"modules": 3}, "modules"),
        ({"blocks": 0}, "blocks"),
        ({"keypoints": 10**6}, "keypoints"),
        ({"block": "wide"}, "block"),
        ({"bottleneck": 1}, "bottleneck"),
        ({"binary": "yes"}, "binary"),
        ({"depth": 3}, "depth"),
    ],
)
def test_bad_value_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        ModelConfig.from_dict(ModelConfig().to_dict() | change)


def test_keys_of_mixed_types() -> None:
    with pytest.raises(UserError, match="unknown key"):
        ModelConfig.from_dict(ModelConfig().to_dict() | {1: 1, None: 2, "depth": 3})  # type: ignore[dict-item]


def test_missing_key_is_named() -> None:
    values = ModelConfig().to_dict()
    del values["blocks"]
    with pytest.raises(UserError, match="blocks"):
        ModelConfig.from_dict(values)


def test_presets_come_in_pairs_of_binary_and_twin() -> None:
    assert PRESETS["bihrnet-w32"].modules == (1, 4, 3)
    assert PRESETS["bihrnet-small"].modules == (1, 1, 1)
    for name, config in PRESETS.items():
        assert config.binary == name.startswith("bihrnet")
        if config.binary:
            assert PRESETS[name[2:]] == config.twin()
    assert preset("bihrnet-w48", keypoints=16).keypoints == 16
    with pytest.raises(UserError, match="bihrnet-w32"):
        preset("resnet50")

from __future__ import annotations

import numpy as np
import pytest

from bihrnet_edge.errors import UserError
from bihrnet_edge.export.weights import WeightStore


def test_hands_out_every_tensor_once() -> None:
    store = WeightStore({"a.weight": np.ones((2, 3)), "a.num_batches_tracked": np.array(7)})
    assert store.take("a.weight", (2, 3)).dtype == np.float32
    store.finish()
    with pytest.raises(UserError, match=r"a\.weight"):
        store.take("a.weight", (2, 3))


def test_missing_tensor_is_named() -> None:
    with pytest.raises(UserError, match=r"'b\.bias'"):
        WeightStore({}).take("b.bias", (1,))


def test_wrong_shape_is_named() -> None:
    with pytest.raises(UserError, match=r"'b\.bias'.*\(3,\).*\(4,\)"):
        WeightStore({"b.bias": np.zeros(3)}).take("b.bias", (4,))


def test_left_over_tensor_is_named() -> None:
    with pytest.raises(UserError, match=r"1 tensors.*'b\.bias'"):
        WeightStore({"b.bias": np.zeros(3)}).finish()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(UserError, match=r"'b\.bias'.*NaN or infinity"):
        WeightStore({"b.bias": np.array([0.0, value])}).take("b.bias", (2,))

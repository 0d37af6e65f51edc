"""The small network that most of these tests look at, exported once a session."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from export_helpers import SmallExport

sys.path.append(str(Path(__file__).parent))  # for export_helpers: pytest imports tests without touching the path

# The extra [export] is not installed everywhere; find_spec, as importing would start TensorFlow without its settings.
if any(find_spec(name) is None for name in ("torch", "tensorflow", "tf_keras", "larq", "larq_compute_engine", "onnx")):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def small() -> SmallExport:
    from export_helpers import SMALL, SmallExport, random_network, run_torch

    from bihrnet_edge.export.larq_model import build_larq_model
    from bihrnet_edge.export.lce import convert_to_lce

    model = random_network(SMALL)
    keras = build_larq_model(SMALL, model.state_dict(), 64, 64)
    images = np.random.default_rng(0).standard_normal((1, 64, 64, 3), np.float32)
    return SmallExport(model, keras, convert_to_lce(keras), images, run_torch(model, images))

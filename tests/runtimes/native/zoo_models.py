"""Writes networks of larq-zoo with random weights as LCE ``.tflite``: zoo_models.py FOLDER.

Without their heads, whose SOFTMAX hides what was computed before it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np

from bihrnet_edge.export.lce import convert_to_lce
from bihrnet_edge.export.tensorflow_env import tf_keras

SIZE = 64


def networks() -> dict[str, tf_keras.Model]:
    # larq-zoo's base class imports it for the data sets that it would train on.
    sys.modules["tensorflow_datasets"] = MagicMock()
    import larq_zoo

    makers = (larq_zoo.sota.QuickNet, larq_zoo.literature.BiRealNet, larq_zoo.literature.MeliusNet22)
    made = {}
    for make in makers:
        tf_keras.utils.set_random_seed(0)
        made[make.__name__] = make(input_shape=(SIZE, SIZE, 3), weights=None, include_top=False)
    return made


def randomise(model: tf_keras.Model) -> None:
    """BatchNorm as after training: without it every bias is 0 and sums of exactly 0 are common."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            for weight in layer.weights:
                spread = rng.normal(size=weight.shape)
                low = np.abs(spread) * 0.3 + 0.6
                weight.assign(low if "gamma" in weight.name or "variance" in weight.name else 0.3 * spread)


def main() -> None:
    for name, model in networks().items():
        randomise(model)
        images = tf_keras.Input((SIZE, SIZE, 3), batch_size=1)
        data = convert_to_lce(tf_keras.Model(images, model(images)))
        (Path(sys.argv[1]) / f"{name}.tflite").write_bytes(data)


if __name__ == "__main__":
    main()

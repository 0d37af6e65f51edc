"""The one door to TensorFlow: what must be set before it is imported, and the check that it took effect.

Larq needs Keras 2, which TensorFlow picks only if ``TF_USE_LEGACY_KERAS`` is set before its first import.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from bihrnet_edge.errors import UserError
from bihrnet_edge.native_output import silenced_stderr

try:
    with silenced_stderr():
        import tensorflow as tf
        import tf_keras

    if tf.keras.layers.Layer is not tf_keras.layers.Layer:
        raise UserError(
            "TensorFlow runs with Keras 3 in this process, which Larq cannot use; "
            "set the environment variable TF_USE_LEGACY_KERAS=1 before TensorFlow is imported."
        )
    import larq
except ImportError as missing:
    raise UserError(
        f"exporting to .tflite needs the package {missing.name!r}; run: pip install 'bihrnet-edge[export]'."
    ) from missing

tf.get_logger().setLevel("ERROR")

__all__ = ["larq", "tf", "tf_keras"]

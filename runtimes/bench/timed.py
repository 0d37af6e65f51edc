"""A model that is ready to be timed: one of this project's, or any other that its runtime takes."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihrnet_edge.errors import UserError, first_line, require_module
from bihrnet_edge.native_output import silenced_stderr
from bihrnet_edge.runtimes import delegate
from bihrnet_edge.runtimes.base import NoMetadataError, Runner, check_threads
from bihrnet_edge.runtimes.lce_runtime import INSTALL
from bihrnet_edge.runtimes.onnx_file import open_session
from bihrnet_edge.runtimes.registry import open_runner, runtime_for
from bihrnet_edge.runtimes.tflite_file import read_tflite

#: ONNX Runtime's names of input types to numpy's; what is left out cannot be filled with numbers.
_ONNX_TYPES = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(uint8)": "uint8",
    "tensor(int8)": "int8", "tensor(uint16)": "uint16", "tensor(int16)": "int16", "tensor(int32)": "int32",
    "tensor(int64)": "int64", "tensor(bool)": "bool",
}  # fmt: skip
#: More than any picture: a file that asks for more is not fed.
_MAX_INPUT_VALUES = 1 << 28


class Timed(ABC):
    """What a turn needs; the input is there already.

    Attributes:
        runtime: the runtime's name.
        delegate: the kernels of the native delegate; None where it takes no part.
        batch: images that one :meth:`invoke` takes; 1 for a model of somebody else's, whatever it takes.
    """

    runtime: str
    delegate: str | None = None
    batch: int = 1

    @abstractmethod
    def invoke(self) -> None:
        """Run the network."""

    @abstractmethod
    def output(self) -> object:
        """The answer of the last :meth:`invoke`, as an application reads it."""

    def close(self) -> None:
        """Let go of everything; the delegate writes its profile then."""
        self.__dict__.clear()


class _Ours(Timed):
    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.runtime, self.delegate, self.batch = runner.name, runner.delegate, runner.batch or 1
        shape = (self.batch, runner.metadata.input_height, runner.metadata.input_width, 3)
        runner.prepare(np.random.default_rng(0).standard_normal(shape, np.float32))
        self.invoke = runner.invoke  # type: ignore[method-assign]  # one call less between the clock and the network

    def invoke(self) -> None:
        self._runner.invoke()

    def output(self) -> object:
        return self._runner.heatmaps()

    def close(self) -> None:
        self._runner.close()
        super().close()


class _Litert(Timed):
    runtime = "litert"

    def __init__(self, path: Path, threads: int, profile: Path | None) -> None:
        delegates: list[Any] = []
        if read_tflite(path).needs_lce:
            loaded, self.delegate = delegate.load(min(threads, delegate.MAX_THREADS), profile=profile)
            delegates = [loaded]
        elif profile is not None:
            raise UserError(f"{path} has no operators of Larq Compute Engine, so that there is no delegate to profile.")
        from ai_edge_litert.interpreter import Interpreter

        with explained(path, "LiteRT"):
            # The interpreter holds on to its delegates, and lets go of them last.
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads, experimental_delegates=delegates)
            self._interpreter.allocate_tensors()
            for source in self._interpreter.get_input_details():
                self._interpreter.set_tensor(source["index"], _random(source["shape"], source["dtype"], path))
        self._targets = [target["index"] for target in self._interpreter.get_output_details()]
        self.invoke = self._interpreter.invoke  # type: ignore[method-assign]

    def invoke(self) -> None:
        self._interpreter.invoke()

    def output(self) -> object:
        return [self._interpreter.get_tensor(index) for index in self._targets]


class _Lce(Timed):
    runtime = "lce"

    def __init__(self, path: Path, threads: int, profile: Path | None) -> None:
        del profile  # open_timed has refused it
        read_tflite(path)  # more careful than the interpreter
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with silenced_stderr():
            lce = require_module("larq_compute_engine.tflite.python.interpreter", f"running {path}", INSTALL)
        with explained(path, "Larq Compute Engine"):
            self._interpreter = lce.Interpreter(path.read_bytes(), num_threads=threads)
        shapes, types = self._interpreter.input_shapes, self._interpreter.input_types
        self._inputs = [_random(shape, kind, path) for shape, kind in zip(shapes, types, strict=True)]
        self._outputs: object = None

    def invoke(self) -> None:
        self._outputs = self._interpreter.interpreter.predict(self._inputs)

    def output(self) -> object:
        return self._outputs


class _Onnx(Timed):
    runtime = "onnxruntime"

    def __init__(self, path: Path, threads: int, profile: Path | None) -> None:
        del profile
        self._session = open_session(path, threads)
        self._inputs = {}
        for source in self._session.get_inputs():
            if source.type not in _ONNX_TYPES:
                raise UserError(f"{path}: its input {source.name} is a {source.type}, for which bench has no values.")
            shape = [size if isinstance(size, int) else 1 for size in source.shape]  # a size with a name may be any
            self._inputs[source.name] = _random(shape, _ONNX_TYPES[source.type], path)
        self._outputs: object = None

    def invoke(self) -> None:
        self._outputs = self._session.run(None, self._inputs)

    def output(self) -> object:
        return self._outputs


_FOREIGN: dict[str, type[_Litert | _Lce | _Onnx]] = {"litert": _Litert, "lce": _Lce, "onnxruntime": _Onnx}


def open_timed(model: str, threads: int, runtime: str | None = None, profile: Path | None = None) -> Timed:
    """Open a model with random input.

    Args:
        model, threads, runtime, profile: as :func:`bihrnet_edge.runtimes.registry.open_runner` takes them; a file
            without this project's metadata is opened, too.

    Raises:
        UserError: as there; or the model wants inputs that are no tensors of numbers.
    """
    try:
        return _Ours(open_runner(model, threads, runtime, profile=profile))
    except NoMetadataError:
        path = Path(model)
        return _FOREIGN[runtime or runtime_for(model)](path, check_threads(threads), profile)


@contextlib.contextmanager
def explained(model: object, runtime: str) -> Iterator[None]:
    """Turns what a runtime raises into a :class:`UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the runtimes raise what they like
        raise UserError(f"{model} cannot be run by {runtime} ({first_line(error)}); give another file.") from error


def _random(shape: Sequence[int], dtype: Any, path: Path) -> NDArray[Any]:
    """Values of any numeric type: normal ones, small integers, 0 or 1."""
    sizes, kind = tuple(int(size) for size in shape), np.dtype(dtype)
    if min(sizes, default=1) < 0 or int(np.prod(sizes, dtype=object)) > _MAX_INPUT_VALUES:
        raise UserError(f"{path} wants an input of shape {sizes}; give a model of a fixed and reasonable size.")
    rng = np.random.default_rng(0)
    if kind.kind == "f":
        return rng.standard_normal(sizes, np.float32).astype(kind)
    if kind.kind in "iub":  # indices of an embedding stay within any table
        return rng.integers(0, 2, sizes).astype(kind)
    raise UserError(f"{path} wants an input of type {kind}, for which bench has no values.")

"""One contender: a process of its own that holds a model and runs it when it is its turn."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from bihrnet_edge.errors import UserError

#: Python puts the current folder first on its path; in a clone of this project that is half a package.
_CHILD = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "from bihrnet_edge.runtimes.bench.worker import main; sys.exit(main())"
)
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Entry:
    """What is to be timed: a model, the runtime (chosen from the file where it is None) and the threads."""

    model: str
    runtime: str | None = None
    threads: int = 1


class Contender:
    """The process of an entry.

    A fresh interpreter, not multiprocessing: its "spawn" imports the caller's main module again, which would count
    towards the peak and breaks scripts without a main guard.

    Attributes:
        entry: what it runs.
        cold_start_ms: from starting the process to its first answer.
        ready: what it said then: ``runtime``, ``delegate``, ``load_ms``, ``first_ms``.
    """

    def __init__(self, entry: Entry, stack: ExitStack, *, profile: bool, pin: Sequence[int] | None) -> None:
        """Start it; it ends with ``stack``.

        Raises:
            UserError: the model cannot be run, or takes the process down.
        """
        self.entry = entry
        task = {
            "model": entry.model,
            "threads": entry.threads,
            "runtime": entry.runtime,
            "profile": profile,
            "pin": list(pin or ()),
        }
        self._log = stack.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115  # the stack closes it
        start = time.perf_counter()
        # A session of its own: Ctrl-C is for the parent, whose end it notices at the end of its input.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, json.dumps(task)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, start_new_session=True,
        )  # fmt: skip
        stack.callback(self._end)
        self.ready = self._answer()
        self.cold_start_ms = 1000 * (time.perf_counter() - start)

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Have it do something, see :mod:`bihrnet_edge.runtimes.bench.worker`; errors as when it was started."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; what it said last says why
            print(json.dumps(order), file=self._process.stdin, flush=True)
        return self._answer()

    def finish(self) -> dict[str, Any]:
        """End it; its last words are ``peak_rss_mib`` and perhaps ``profile``."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        answer = self._answer()
        self._process.wait()  # so that its CPU time counts as ours
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise UserError(
                f"bench: the process that ran {self.entry.model} with {self.entry.threads} threads failed "
                f"({self._reason()})."
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise UserError(answer["error"])
        return answer

    def _reason(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        self._log.seek(0)
        said = self._log.read().strip().splitlines()
        return said[-1] if said else f"ended with {code}"

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is None and not self._process.stdin.closed:
            self._process.kill()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

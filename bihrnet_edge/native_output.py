"""Keeping native libraries' chatter off the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """Swallow what native code prints to file descriptor 2; shown after all if the block raises.

    TensorFlow logs through absl before any of its settings is read, so no environment variable stops it.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with tempfile.TemporaryFile() as swallowed:
            os.dup2(swallowed.fileno(), 2)
            try:
                yield
            except BaseException:
                sys.stderr.flush()
                swallowed.seek(0)
                os.write(saved, swallowed.read())
                raise
            finally:
                sys.stderr.flush()
                os.dup2(saved, 2)
    finally:
        os.close(saved)

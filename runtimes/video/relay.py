"""Handing things from one thread to another, a few at a time, so that they work at once and memory stays bounded."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

_T = TypeVar("_T")
#: How often a waiting side looks up, in seconds: a signal's handler runs no later than that.
_GLANCE_S = 0.1


class Relay(Generic[_T]):
    """One thread puts, one takes.

    Args:
        size: things that wait at most.
        newest: where it is full, drop the oldest in place of waiting: for what does not wait itself, a camera.

    Attributes:
        dropped: things that ``newest`` dropped.
    """

    def __init__(self, size: int, newest: bool = False) -> None:
        self._waiting: deque[_T] = deque()
        self._size, self._newest = size, newest
        self._ended = self._left = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self.dropped = 0

    def put(self, thing: _T) -> bool:
        """Hand over; False where the other side takes nothing any more."""
        with self._changed:
            while len(self._waiting) >= self._size and not self._left:
                if self._newest:
                    self._waiting.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait(_GLANCE_S)
            if self._left:
                return False
            self._waiting.append(thing)
            self._changed.notify_all()
            return True

    def end(self, error: BaseException | None = None) -> None:
        """Nothing comes any more; ``error`` is raised on the other side when it has taken what waits."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def leave(self) -> None:
        """Take nothing any more."""
        with self._changed:
            self._left = True
            self._waiting.clear()
            self._changed.notify_all()

    def taken(self, stop: threading.Event | None = None) -> Iterator[_T]:
        """What was put, until it ends or ``stop`` is set."""
        while stop is None or not stop.is_set():
            with self._changed:
                if not self._waiting:
                    if self._ended:
                        if self._error is not None:
                            raise self._error
                        return
                    self._changed.wait(_GLANCE_S)
                    continue
                thing = self._waiting.popleft()
                self._changed.notify_all()
            yield thing

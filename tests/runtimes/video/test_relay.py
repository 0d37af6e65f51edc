from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihrnet_edge.runtimes.video.relay import Relay


@settings(deadline=None, max_examples=30)
@given(things=st.lists(st.integers(), max_size=50), size=st.integers(1, 4))
def test_everything_arrives_in_order(things: list[int], size: int) -> None:
    relay: Relay[int] = Relay(size)

    def give() -> None:
        for thing in things:
            assert relay.put(thing)
        relay.end()

    thread = threading.Thread(target=give)
    thread.start()
    assert list(relay.taken()) == things
    thread.join()


@settings(deadline=None, max_examples=30)
@given(things=st.lists(st.integers(), min_size=1, max_size=20), size=st.integers(1, 4))
def test_the_newest_wait_where_nobody_takes(things: list[int], size: int) -> None:
    relay: Relay[int] = Relay(size, newest=True)
    for thing in things:
        assert relay.put(thing)
    relay.end()
    assert list(relay.taken()) == things[-size:]
    assert relay.dropped == max(0, len(things) - size)


def test_an_error_comes_after_what_was_before_it() -> None:
    relay: Relay[int] = Relay(2)
    relay.put(1)
    relay.end(RuntimeError("torn"))
    taken = relay.taken()
    assert next(taken) == 1
    with pytest.raises(RuntimeError, match="torn"):
        next(taken)


def test_who_waits_is_woken() -> None:
    relay: Relay[int] = Relay(1)
    relay.put(1)
    threading.Timer(0.05, relay.leave).start()
    assert not relay.put(2)  # there was no room
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    started = time.perf_counter()
    assert list(Relay[int](1).taken(stop)) == []
    assert time.perf_counter() - started < 5

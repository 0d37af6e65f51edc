"""What became slower since another run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.bench.report import BenchReport, BenchResult
from bihrnet_edge.runtimes.bench.statistics import RatioInterval, unpaired_ratio

#: Per cent that a median may grow unless told.
MAX_SLOWDOWN = 5.0


@dataclass(frozen=True)
class Change:
    """One contender then and now.

    Attributes:
        name: the contender now.
        before_ms, now_ms: p50.
        ratio: now over before.
    """

    name: str
    before_ms: float
    now_ms: float
    ratio: RatioInterval

    def is_slower(self, percent: float) -> bool:
        """By more than ``percent``, and by more than the turns of either run differ."""
        return self.ratio.low > 1 and self.ratio.value > 1 + percent / 100


@dataclass(frozen=True)
class Comparison:
    """Changes of the contenders that both runs have, and the names of those which only one has."""

    changes: tuple[Change, ...]
    unmatched: tuple[str, ...]

    def regressions(self, percent: float) -> list[Change]:
        """Those that became slower by more than ``percent``."""
        return [change for change in self.changes if change.is_slower(percent)]


def compare_reports(now: BenchReport, before: BenchReport, source: object) -> Comparison:
    """Match contenders by file name, runtime and threads, and compare their turns.

    Args:
        now, before: the two runs.
        source: what errors call the earlier one.

    Raises:
        UserError: the runs are of different machines, or have no contender in common.
    """
    here, there = now.machine, before.machine
    if (here.cpu, here.board, now.tool) != (there.cpu, there.board, before.tool):
        raise UserError(
            f"{source} was measured on {there.name} with {before.tool}, and this is {here.name} with {now.tool}; "
            "compare runs of one machine."
        )
    old, new = _by_key(before.results), _by_key(now.results)
    common = [key for key in new if key in old]
    if not common:
        raise UserError(
            f"{source} has none of these contenders, but {', '.join(r.name for r in before.results)}; compare runs of "
            "the same files, runtimes and threads."
        )
    changes = tuple(
        Change(new[key].name, old[key].p50_ms, new[key].p50_ms, unpaired_ratio(_medians(new[key]), _medians(old[key])))
        for key in common
    )
    unmatched = [r.name for one, other in ((old, new), (new, old)) for key, r in one.items() if key not in other]
    return Comparison(changes, tuple(unmatched))


def _medians(result: BenchResult) -> list[float]:
    return [float(np.median(turn)) for turn in result.turns_ms]


def _by_key(results: Sequence[BenchResult]) -> dict[tuple[str, str, int, int], BenchResult]:
    """The number tells contenders apart that are the same but for their folder, by their order."""
    found: dict[tuple[str, str, int, int], BenchResult] = {}
    for result in results:
        key = (Path(result.model).name, result.runtime, result.threads)
        number = sum(other[:3] == key for other in found)
        found[(*key, number)] = result
    return found

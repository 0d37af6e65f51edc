"""Counting what a reader leaves out or notices, and naming the first of each."""

from __future__ import annotations

from collections import Counter

from bihrnet_edge.errors import UserError

#: Names kept a reason: enough to find the cause, however long the file.
_EXAMPLES = 5


class Tally:
    """How often each reason came up, and the first few things that it came up for.

    Attributes:
        counts: occurrences by reason.
        examples: by reason, the names of the first five.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, tuple[str, ...]] = {}
        self._details: dict[str, str] = {}

    def add(self, reason: str, name: str) -> None:
        """Count ``reason`` once more, for what is called ``name``."""
        self.counts[reason] += 1
        known = self.examples.get(reason, ())
        if len(known) < _EXAMPLES:
            self.examples[reason] = (*known, name)

    def malformed(self, reason: str, error: UserError) -> None:
        """Count ``reason`` for what ``error`` names and finds wrong."""
        found = str(error).partition("; ")[0]  # what follows tells what to do
        self.add(reason, found)
        self._details.setdefault(reason, found)

    def __str__(self) -> str:
        """``3 crowd, 1 malformed box (annotation 7: bbox holds NaN or infinity)``; empty where nothing was counted."""
        return ", ".join(
            f"{count} {reason}" + (f" ({self._details[reason]})" if reason in self._details else "")
            for reason, count in self.counts.items()
        )

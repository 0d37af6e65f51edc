"""Every message that the page on troubleshooting quotes is one that the sources have."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest
from documents import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
QUOTES = re.findall(r"^\| `(.+?)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)


@cache
def messages() -> tuple[str, ...]:
    """Every text of the sources, with … where a value is put in."""
    found = []
    for folder in ("bihrnet_edge", "export", "runtimes", "calibration"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return tuple(found)


def test_the_page_quotes_messages() -> None:
    assert len(QUOTES) > 30
    assert len(QUOTES) == len(set(QUOTES))


@pytest.mark.parametrize("quote", QUOTES)
def test_quoted_messages_exist(quote: str) -> None:
    parts = [re.escape(part) for part in quote.split("…")]
    assert max(map(len, parts)) > 10, "too little of the message is quoted to find it again"
    pattern = re.compile(".*".join(parts), re.DOTALL)
    assert any(pattern.search(message) for message in messages())

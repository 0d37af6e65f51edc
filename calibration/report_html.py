"""Pieces of HTML in which text is escaped unless it is marked as HTML already."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

#: What HTML allows in no text: control characters, halves of surrogate pairs and noncharacters. File names hold some.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


class Markup(str):
    """HTML that may enter a document as it is."""

    __slots__ = ()


def escaped(value: object) -> Markup:
    """Text for an element or a quoted attribute; :class:`Markup` passes unchanged."""
    if isinstance(value, Markup):
        return value
    text = _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", str(value))
    # The last two characters of each higher plane are noncharacters as well.
    text = "".join("\N{REPLACEMENT CHARACTER}" if ord(c) & 0xFFFE == 0xFFFE else c for c in text)
    return Markup(html.escape(text, quote=True))


def joined(*parts: object) -> Markup:
    """Parts one below the other; empty ones are left out."""
    return Markup("\n".join(text for part in parts if (text := escaped(part))))


def tag(name: str, content: object, **attributes: str) -> Markup:
    """An element; a trailing underscore of an attribute's name is dropped, others become hyphens."""
    listed = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"' for key, value in attributes.items() if value
    )
    return Markup(f"<{name}{listed}>{escaped(content)}</{name}>")


def figure(content: Markup, caption: str) -> Markup:
    """A figure with its caption."""
    return tag("figure", joined(content, tag("figcaption", caption)))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "", class_: str = "") -> Markup:
    """A table whose first column heads its rows; it scrolls by itself where the screen is narrow."""
    head = tag("tr", joined(*(tag("th", column, scope="col") for column in columns)))
    body = [tag("tr", joined(tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]))) for row in rows]
    parts = joined(tag("caption", caption) if caption else "", tag("thead", head), tag("tbody", joined(*body)))
    return tag("div", tag("table", parts, class_=class_), class_="scroll")

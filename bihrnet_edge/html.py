"""HTML reports of one file: no scripts, no fonts, no network; text is escaped unless it is marked as HTML already."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

#: What HTML allows in no text: control characters, halves of surrogate pairs and noncharacters. File names hold some.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--paper:#fff;--bar:#3573b1;--good:#1a7f37;
--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa4af;--line:#3d444d;--paper:#0f1319;--bar:#6cb0f0;
--good:#4cc26b;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:70rem;padding:1rem;background:var(--paper);color:var(--ink);
font:1rem/1.5 system-ui,sans-serif;overflow-wrap:break-word}
h1{font-size:1.6rem;line-height:1.25;margin:.5rem 0}
h2{font-size:1.2rem;margin:2rem 0 .5rem}
h3{font-size:1rem;margin:1.5rem 0 .5rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;min-width:min(100%,20rem)}
caption{text-align:left;color:var(--soft);padding-bottom:.25rem}
th,td{padding:.3rem .75rem .3rem 0;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
.facts td{overflow-wrap:anywhere}
.figures td,.figures thead th+th{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
tbody th{font-weight:500}
.facts th{min-width:7rem}
.note,figcaption{color:var(--soft);font-size:.9rem}
.good{color:var(--good);font-weight:600}
.bad{color:var(--bad);font-weight:600}
figure{margin:1rem 0}
svg{display:block;width:100%;max-width:36rem;height:auto;fill:currentColor}
.bar{fill:var(--bar)}
.line{stroke:currentColor}
.dashed{stroke:var(--soft);stroke-dasharray:4 3}
.course{fill:none;stroke:var(--bar);stroke-width:2}
.pairs{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1rem}
.pairs figure{margin:0}
.pair{display:flex;gap:.25rem;align-items:flex-start}
.pair img{width:calc(50% - .125rem);height:auto}
""".strip()
#: Even if a text slipped through unescaped, a browser would run and load nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


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


def document(title: str, body: Markup, style: str = "") -> str:
    """A whole document that needs nothing else; ``style`` is added to the rules that all have."""
    head = joined(
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        tag("title", title),
        tag("style", Markup(f"{_STYLE}\n{style}".rstrip())),
    )
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'

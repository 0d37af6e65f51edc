"""The documents, and what of them a reader would type."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CARDS = ROOT / "bihrnet_edge" / "model" / "checkpoints"
#: In the order in which a newcomer reads them; the changelog tells of the past and is left out.
DOCUMENTS = sorted(
    [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *CARDS.glob("*.md")],
    key=lambda path: (path.name not in ("README.md", "quickstart.md"), str(path)),
)
_FENCE = re.compile(r"^(?P<fence>```+)(?P<language>[\w-]*)\n(?P<text>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_SETTING = re.compile(r"[A-Z_]+=\S*")


@dataclass(frozen=True)
class Command:
    """A command line as a document has it.

    Attributes:
        document: where.
        text: on one line, without prompt, comment and environment.
        words: as a shell would split it; variables stay as they are.
        output: the lines that the document shows below it.
    """

    document: Path
    text: str
    words: tuple[str, ...]
    output: tuple[str, ...] = ()

    @property
    def program(self) -> str:
        return self.words[0]

    def __str__(self) -> str:
        return f"{self.document.name}: {self.text}"


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def blocks(document: Path, *languages: str) -> list[str]:
    """The fenced blocks of these languages, in order."""
    text = document.read_text(encoding="utf-8")
    return [found["text"] for found in _FENCE.finditer(text) if found["language"] in languages]


def prose(document: Path) -> str:
    """The document without its fenced blocks."""
    return _FENCE.sub("", document.read_text(encoding="utf-8"))


def spans(document: Path) -> list[str]:
    """The inline code, each on one line."""
    return [" ".join(span.split()) for span in _SPAN.findall(prose(document))]


def commands(document: Path) -> list[Command]:
    """What the document's ``console`` and ``sh`` blocks have, in order."""
    found: list[Command] = []
    for block in blocks(document, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            typed, rest = _logical_line(part)
            found.append(_command(document, typed, tuple(line for line in rest if line.strip())))
    for block in blocks(document, "sh", "bash"):
        lines = block.splitlines()
        while lines:
            typed, lines = _logical_line("\n".join(lines))
            if shlex.split(typed, comments=True) and not typed.startswith("export "):
                found.append(_command(document, typed))
    return found


def inline_commands(document: Path) -> list[Command]:
    """Command lines of this package in the text; a placeholder is in capitals, and one with … is no whole line."""
    found = [
        _command(document, span) for span in spans(document) if span.startswith("bihrnet-edge ") and "…" not in span
    ]
    return [command for command in found if not command.words[1].isupper()]


def _logical_line(text: str) -> tuple[str, list[str]]:
    """The first line with those that it continues on, and the rest."""
    lines = text.splitlines()
    typed = lines.pop(0)
    while typed.endswith("\\"):
        typed = typed[:-1].rstrip() + " " + lines.pop(0).strip()
    return typed, lines


def _command(document: Path, typed: str, output: tuple[str, ...] = ()) -> Command:
    words = shlex.split(typed, comments=True)
    while _SETTING.fullmatch(words[0]):
        words.pop(0)
    return Command(document, shlex.join(words), tuple(words), output)

"""The documentation as data: its pages, code blocks and inline code, and the tables made from the code.

python -m tests.docs.pages      writes the tables anew
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from impasto.compat import page
from impasto.engine.changes import RULES

ROOT = Path(__file__).parents[2]
RESUME = ROOT / "docs" / "how-to" / "resume-and-change-settings.md"
KOHYA = ROOT / "docs" / "how-to" / "coming-from-kohya.md"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_MARKED = re.compile(r"(<!-- resume table:[^\n]*-->\n).*?(<!-- end of resume table -->)", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Fenced code."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"


def pages() -> list[Path]:
    """Every page."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name(page: Path) -> str:
    """A page as a test is named after it."""
    return page.relative_to(ROOT).as_posix()


def blocks(language: str) -> list[Block]:
    """All code blocks of a language."""
    return [block for page in pages() for block in _blocks(page) if block.language == language]


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def inline(page: Path) -> list[str]:
    """The inline code of a page."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def resume_table() -> str:
    """What may change at a resume."""
    verdicts = {"applied": "applied", "refused": "refused", "allowed by name": "needs `--allow`"}
    rows = [f"| `{key}` | {verdicts[verdict]} | {reason} |" for key, (verdict, reason) in RULES.items()]
    return "\n".join(["| setting | verdict | why |", "| --- | --- | --- |", *rows]) + "\n"


def with_tables(text: str) -> str:
    """The page on resuming with its table as it should be."""
    return _MARKED.sub(lambda found: found[1] + "\n" + resume_table() + "\n" + found[2], text)


def with_differences(text: str) -> str:
    """The page on coming from Kohya with its tables as they should be."""
    for name, table in (("differences", page.differences()), ("absences", page.absences())):
        marked = re.compile(rf"(<!-- {name}:[^\n]*-->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        text = marked.sub(lambda found, table=table: f"{found[1]}\n{table}\n{found[2]}", text)
    return text


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in _FENCE.finditer(text):
        yield Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])


if __name__ == "__main__":
    RESUME.write_text(with_tables(RESUME.read_text("utf-8")), "utf-8", newline="\n")
    KOHYA.write_text(with_differences(KOHYA.read_text("utf-8")), "utf-8", newline="\n")

"""How `--help` looks: plain text, the names in one column and what they mean in another."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from io import StringIO
from typing import Any

from cyclopts.help import HelpEntry, HelpPanel
from rich.console import Console, ConsoleOptions

WIDEST = 100
_NAMES = 26
_NARROW = 60


class PlainHelp:
    """Renders help without colours, boxes or letters that some consoles lack."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """One block of commands or parameters."""
        if panel.entries:
            lines = [
                f"{_text(panel.title)}:",
                *(line for each in panel.entries for line in _entry(each, console.width)),
            ]
            _print(console, "\n".join([*lines, ""]))

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        """The first line."""
        if usage:
            _print(console, f"Usage: {_text(usage).removeprefix('Usage:').strip()}\n")

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:
        """What a command is for."""
        if text := _text(description):
            _print(console, "\n".join(textwrap.wrap(text, min(console.width, WIDEST))) + "\n")


def _entry(entry: HelpEntry, width: int) -> Iterator[str]:
    names = "  " + " ".join(entry.display_labels_with_metavar or entry.positive_names)
    words = [_text(entry.description)]
    if entry.choices:
        words.append(f"({', '.join(entry.choices)})")
    if entry.default is not None and str(entry.default) not in ("False", "None"):
        words.append(f"(default {entry.default})")
    if entry.required:
        words.append("(required)")
    indent = _NAMES if width >= _NARROW else 4
    lines = textwrap.wrap(" ".join(words), max(16, min(width, WIDEST) - indent)) or [""]
    if len(names) < indent - 1:
        yield f"{names:<{indent}}{lines.pop(0)}".rstrip()
    else:
        yield names
    yield from (" " * indent + line for line in lines)


def _text(renderable: Any) -> str:
    wide = Console(file=StringIO(), width=10_000, color_system=None, highlight=False)
    with wide.capture() as captured:
        wide.print(renderable, end="")
    return " ".join(captured.get().split())


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)

"""The page on the options of sd-scripts, made from their table and the settings themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from impasto.compat.kohya import COMMAND, Row, Verdict, answers, quirks, rows, share
from impasto.config import RunConfig
from impasto.schema import Section
from impasto.settings import fields
from impasto.settings.fields import Kinds, Setting, Table
from impasto.settings.toml import literal

INTRODUCTION = """\
# Options of sd-scripts

<!-- made by `python -m impasto.reference` from `impasto/compat/kohya.tsv`; change that instead -->

Every option that sd-scripts (and with it kohya_ss) has for training adapters, and what it is called here. The defaults
are impasto's.

| verdict | meaning |
| --- | --- |
| same | it is here and does the same |
| better | it is here, or needs no setting any more, for the reason that is given |
| later | what it is for is planned; the row says what is missing |
| absent | it is not here, for the reason that is given |
"""

NOTES = """\
## Marks

A mark such as Q-D19 names a behaviour of sd-scripts or kohya_ss that surprises, and that impasto does not repeat:

| mark | what happens there |
| --- | --- |
"""


def page() -> str:
    """The whole page."""
    counts = ", ".join(f"{_count(verdict)} {verdict}" for verdict in get_args(Verdict))
    missing = share("absent") + share("later")
    lines = [INTRODUCTION, f"Of {len(rows())} options: {counts}. So {missing:.0%} are not here today.", ""]
    for group in dict.fromkeys(row.group for row in rows()):
        lines += [
            f"## {group}",
            "",
            "| option | here | default | meaning | verdict |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [_line(row) for row in rows() if row.group == group]
        lines.append("")
    cited = dict.fromkeys(sorted(mark for row in rows() for mark in row.quirks))
    return "\n".join(lines) + NOTES + "".join(f"| {mark} | {quirks()[mark]} |\n" for mark in cited)


def differences() -> str:
    """Each surprising behaviour there, and what happens here: for the page on coming from there."""
    lines = ["| mark | there | here |", "| --- | --- | --- |"]
    lines += [f"| {mark} | {_cell(what)} | {_cell(answers()[mark])} |" for mark, what in quirks().items()]
    return "\n".join(lines) + "\n"


def absences() -> str:
    """What an import cannot carry over, and why."""
    lines = ["| option | what for | why not |", "| --- | --- | --- |"]
    lines += [
        f"| `{row.flag}` | {_cell(row.meaning)} | {_cell(row.reason)} |"
        for row in rows()
        if row.verdict in ("later", "absent") and not row.names
    ]
    return "\n".join(lines) + "\n"


def defaults(name: str) -> list[str]:
    """The default of a setting by its dotted name; several where its kinds differ, none where there is no such name."""
    return list(dict.fromkeys(_default(path, setting) for path, setting in _found(name)))


def _line(row: Row) -> str:
    names = "<br>".join(f"`{name}`" for name in row.names)
    given = "<br>".join(" or ".join(defaults(name)) for name in row.settings)
    marks = f" ({', '.join(row.quirks)})" if row.quirks else ""
    mark = "; " if row.verdict == "later" else ": "  # a reason for later begins with "missing: "
    verdict = f"{row.verdict}{mark if row.reason else ''}{row.reason}{marks}"
    return f"| `{row.flag}` | {names} | {given} | {_cell(row.meaning)} | {_cell(verdict)} |"


def _count(verdict: Verdict) -> int:
    return sum(row.verdict == verdict for row in rows())


def _found(name: str) -> Iterator[tuple[tuple[str, ...], Setting]]:
    """Every setting of this name, whatever kind it belongs to. Places in lists have no part in the name."""
    assert not name.startswith(COMMAND)
    for path, setting in fields.walk(RunConfig):
        if ".".join(part for part in path if part != "*") == name:
            yield path, setting


def _default(path: tuple[str, ...], setting: Setting) -> str:
    if setting.required:
        return "*required*"
    value: Any = setting.default
    if setting.name == "kind":  # each kind's own is its name: the usual one is the default of what it chooses for
        (above,) = {_kind(each.default) for each in fields.at(RunConfig, path[:-1])}
        return f"`{literal(above)}`"
    if isinstance(setting.shape, Kinds) and isinstance(value, Section):
        return f"`{literal(_kind(value))}`"
    if value is None:
        return "*unset*"
    if isinstance(setting.shape, Table) or (value == () and fields.inner(setting.shape)):
        return ""
    return f"`{literal(value)}`"


def _kind(section: Any) -> str:
    kind: str = section.kind
    return kind


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

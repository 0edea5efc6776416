"""What settings mean, in plain text, from their docstrings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from impasto.errors import ConfigError, Problem
from impasto.schema import Section
from impasto.settings import fields
from impasto.settings.fields import Listing, Setting
from impasto.settings.suggest import nearest
from impasto.settings.toml import literal
from impasto.sweeps.config import WholeFile

WIDTH = 100


def about(name: str | None) -> Iterator[str]:
    """The help for a dotted name, or an overview."""
    if name is None:
        yield "Sections and settings at the top; `impasto explain SECTION` goes on from there."
        yield ""
        yield from _of_section(WholeFile)
        return
    found = _settings(name)
    if not found:
        known = sorted({".".join(_plain(path)) for path, _ in fields.walk(WholeFile)})
        near = nearest(name, known) or nearest(name.split(".")[0], list(WholeFile.model_fields))
        ending = [each for each in known if each.endswith(f".{name}")]
        meant = " or ".join(ending[:3]) or near
        fix = f"did you mean {meant}?" if meant else "`impasto explain` lists the sections"
        raise ConfigError(Problem("E-CFG-010", f"there is no setting {name}", "command line", fix))
    path, setting = found[0]
    inner = fields.inner(setting.shape)
    if inner:
        header = ".".join(_plain(path))
        yield f"[[{header}]]" if isinstance(setting.shape, Listing) else f"[{header}]"
        yield from _wrapped(setting.help, "")
    for section in inner:
        yield ""
        if kind := fields.kind_of(section):
            yield f'kind = "{kind}"'
            yield from _wrapped(fields.help_of(section), "")
        yield from _of_section(section)
    if not inner:
        for kinds, each in _alike([setting for _, setting in found]):
            yield name + (f" (of kind {', '.join(kinds)})" if kinds else "")
            yield from _of_setting(each)


def _alike(found: list[Setting]) -> list[tuple[list[str], Setting]]:
    """Settings that several kinds have in common, once."""
    groups: dict[tuple[object, ...], tuple[list[str], Setting]] = {}
    for each in found:
        kinds, _ = groups.setdefault((each.shape, each.default, each.help), ([], each))
        if len(found) > 1 and (kind := fields.kind_of(each.section)) and kind not in kinds:
            kinds.append(kind)
    return list(groups.values())


def _settings(name: str) -> list[tuple[tuple[str, ...], Setting]]:
    wanted = tuple(part for part in name.strip("[]").split(".") if not part.isdecimal())
    return [(path, setting) for path, setting in fields.walk(WholeFile) if _plain(path) == wanted]


def _plain(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for part in path if part != "*")


def _of_section(section: type[Section]) -> Iterator[str]:
    for setting in fields.settings(section).values():
        if setting.name == "kind":
            continue
        yield f"  {setting.name}" + (" ..." if fields.inner(setting.shape) else "")
        yield from _of_setting(setting)


def _of_setting(setting: Setting) -> Iterator[str]:
    yield from _wrapped(setting.help or fields.help_of(setting.section), "      ")
    if not fields.inner(setting.shape):
        yield from _wrapped(f"({fields.expected(setting.shape)}; {_default(setting)})", "      ")


def _default(setting: Setting) -> str:
    if setting.required:
        return "required"
    return "unset by default" if setting.default is None else f"default {literal(setting.default)}"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False)

"""Settings out as TOML: every value written, each under the line that explains it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from functools import cache

from impasto.schema import Section
from impasto.settings import fields
from impasto.settings.toml import bare_or_quoted, literal

WIDTH = 100


def write(section: Section) -> str:
    """The whole section as a TOML document with comments."""
    return "\n".join(_body(section, "")).strip() + "\n"


def _body(section: Section, name: str) -> Iterator[str]:
    """Plain values first: in TOML, what follows a header belongs to it."""
    settings = fields.settings(type(section)).values()
    for setting in settings:
        value = getattr(section, setting.name)
        if _is_section(value) or (value is None and fields.inner(setting.shape)):
            continue
        yield from comment(setting.help or _help_of_kind(section, setting.name))
        yield _assignment(setting.name, value, unset=value is None or _is_empty_list_of_sections(setting, value))
        yield ""
    for setting in settings:
        value = getattr(section, setting.name)
        header = f"{name}.{setting.name}" if name else setting.name
        if isinstance(value, Section):
            yield from _table(value, header, f"[{header}]", setting.help)
        elif _is_section(value):
            for each in value:
                yield from _table(each, header, f"[[{header}]]", setting.help)
        elif value is None and fields.inner(setting.shape):
            yield from comment(setting.help)
            yield f"# [{header}]"
            yield ""


def _table(section: Section, name: str, header: str, help_text: str) -> Iterator[str]:
    yield from comment(help_text or fields.help_of(type(section)))
    yield header
    yield ""
    yield from _body(section, name)


@cache
def comment(text: str) -> tuple[str, ...]:
    """Text as comment lines."""
    return tuple(textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False))


def _assignment(name: str, value: object, *, unset: bool) -> str:
    if unset:
        return f"# {bare_or_quoted(name)} ="
    return f"{bare_or_quoted(name)} = {literal(value)}"


def _is_section(value: object) -> bool:
    return isinstance(value, Section) or (isinstance(value, tuple) and bool(value) and isinstance(value[0], Section))


def _is_empty_list_of_sections(setting: fields.Setting, value: object) -> bool:
    """Written as a value it would forbid `[[name]]` further down."""
    return value == () and setting.default == () and bool(fields.inner(setting.shape))


def _help_of_kind(section: Section, name: str) -> str:
    return fields.help_of(type(section)) if name == "kind" else ""

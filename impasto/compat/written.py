"""Translated settings as a TOML file that a person goes on from, and the report on what became of each value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from impasto.compat.recipe import Result
from impasto.compat.translate import Translation
from impasto.config import RunConfig
from impasto.schema import Section
from impasto.settings import fields
from impasto.settings.places import Key
from impasto.settings.secrets import without_secrets
from impasto.settings.toml import bare_or_quoted, literal
from impasto.settings.writer import comment

TITLES = {"better": "better", "lost": "not carried over", "unknown": "unknown"}


def document(made: Translation) -> str:
    """The file: what was said there, in the order of the settings; lines that are no plain translation say why."""
    head = (
        f"From {_one_line(made.recipe.source)}, {made.recipe.kind}. Lines without a remark mean what they meant there."
    )
    lines = [*comment(head)]
    body = list(_body(made.values, RunConfig, (), made.comments))
    lines += body if not body or not body[0] else ["", *body]
    lost = [each for each in made.of("lost", "unknown") if not each.usual or each.outcome == "lost"]
    if lost:
        lines += ["", "# Not carried over:"]
        for each in lost:
            lines += comment(f"- {_one_line(_named(each))}: {each.reason or TITLES[each.outcome]}")
    return without_secrets("\n".join(lines).strip()) + "\n"


def report(made: Translation) -> str:
    """What a person wants to know: what is better, what is missing, how much is the same."""
    lines = [f"{_one_line(made.recipe.source)}: {made.recipe.kind}"]
    for outcome, title in TITLES.items():
        found = made.of(outcome)
        if found:
            lines += ["", f"{title} ({len(found)}):", *(f"  {_line(each)}" for each in found)]
    same = made.of("same")
    lines += ["", f"same: {len(same)}"]
    return without_secrets("\n".join(lines))


def described(made: Translation) -> dict[str, Any]:
    """All of it for a program."""
    return {
        "source": made.recipe.source,
        "kind": made.recipe.kind,
        "base": made.recipe.base,
        "toml": document(made),
        "results": [_described(each) for each in made.results],
    }


def _described(result: Result) -> dict[str, Any]:
    value = without_secrets(result.value) if isinstance(result.value, str) else result.value
    return {
        "name": result.name,
        "value": value,
        "outcome": {"lost": "not carried over"}.get(result.outcome, result.outcome),
        "settings": list(result.settings),
        "reason": result.reason,
        "quirks": list(result.quirks),
        "usual": result.usual,
    }


def _line(result: Result) -> str:
    marks = f" ({', '.join(result.quirks)})" if result.quirks else ""
    became = f" -> {'; '.join(result.settings)}" if result.settings else ""
    return _one_line(f"{_named(result)}{became}: {result.reason or 'see the setting'}{marks}")


def _named(result: Result) -> str:
    if result.value is None or result.value is True:
        return result.name
    shown = literal(result.value) if isinstance(result.value, str | int | float | bool) else str(result.value)
    return f"{result.name} = {shown if len(shown) <= 60 else shown[:59] + '…'}"


def _one_line(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _body(values: Mapping[str, Any], section: type[Section], at: Key, remarks: Mapping[Key, str]) -> Iterator[str]:
    """Plain values first: in TOML, what follows a header belongs to it."""
    tables: list[tuple[str, Any, fields.Setting]] = []
    known = fields.settings(section)
    kind_first = sorted(known, key=lambda name: name != "kind")
    for name in kind_first:
        if name not in values:
            continue
        value = values[name]
        if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
            tables.append((name, value, known[name]))
            continue
        yield from comment(_one_line(remarks.get((*at, name), "")))
        yield f"{bare_or_quoted(name)} = {literal(value)}"
    for name, value, setting in tables:
        yield from _table(name, value, setting, at, remarks)


def _table(name: str, value: Any, setting: fields.Setting, at: Key, remarks: Mapping[Key, str]) -> Iterator[str]:
    key = (*at, name)
    dotted = ".".join(bare_or_quoted(part) for part in key if isinstance(part, str))
    for number, each in enumerate(value if isinstance(value, list) else [value]):
        header = f"[[{dotted}]]" if isinstance(value, list) else f"[{dotted}]"
        place = (*key, number) if isinstance(value, list) else key
        options = fields.inner(setting.shape)
        inner = fields.usual_section(setting.shape, each, setting.default) or (options[0] if options else None)
        body = list(_free(each) if inner is None else _body(each, inner, place, remarks))
        if isinstance(value, dict) and (not body or not body[0]):  # nothing but tables: their headers say all
            yield from body
        else:
            yield from ["", header, *body]


def _free(values: Mapping[str, Any]) -> Iterator[str]:
    """A table whose names are nobody's business here."""
    yield from (f"{bare_or_quoted(name)} = {literal(value)}" for name, value in values.items())

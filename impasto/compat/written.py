"""Translated settings as a TOML file that a person goes on from, and the report on what became of each value."""

from __future__ import annotations

from typing import Any

from impasto.compat.recipe import Result
from impasto.compat.translate import Translation
from impasto.config import RunConfig
from impasto.settings import sparse
from impasto.settings.secrets import without_secrets
from impasto.settings.toml import literal
from impasto.settings.writer import comment

TITLES = {"better": "better", "lost": "not carried over", "unknown": "unknown"}


def document(made: Translation) -> str:
    """The file: what was said there, in the order of the settings; lines that are no plain translation say why."""
    source = sparse.one_line(made.recipe.source)
    head = f"From {source}, {made.recipe.kind}. Lines without a remark mean what they meant there."
    lines = [*comment(head)]
    body = list(sparse.lines(made.values, RunConfig, made.comments))
    lines += body if not body or not body[0] else ["", *body]
    lost = [each for each in made.of("lost", "unknown") if not each.usual or each.outcome == "lost"]
    if lost:
        lines += ["", "# Not carried over:"]
        for each in lost:
            lines += comment(f"- {sparse.one_line(_named(each))}: {each.reason or TITLES[each.outcome]}")
    return without_secrets("\n".join(lines).strip()) + "\n"


def report(made: Translation) -> str:
    """What a person wants to know: what is better, what is missing, how much is the same."""
    lines = [f"{sparse.one_line(made.recipe.source)}: {made.recipe.kind}"]
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
    return sparse.one_line(f"{_named(result)}{became}: {result.reason or 'see the setting'}{marks}")


def _named(result: Result) -> str:
    if result.value is None or result.value is True:
        return result.name
    shown = literal(result.value) if isinstance(result.value, str | int | float | bool) else str(result.value)
    return f"{result.name} = {shown if len(shown) <= 60 else shown[:59] + '…'}"

"""Advice: what can be trained and is probably not meant. Each piece has a code, a reason and a fix."""

from __future__ import annotations

from collections.abc import Iterator

from impasto.errors import ConfigError, Problem
from impasto.preflight import rules_adapter, rules_base, rules_data
from impasto.preflight.facts import Facts as Facts
from impasto.preflight.facts import Rule

RULES: tuple[Rule, ...] = (*rules_adapter.RULES, *rules_data.RULES, *rules_base.RULES)


def advice(facts: Facts) -> Iterator[Problem]:
    """All advice on a run, without what its settings silence. Raises ConfigError for codes that there are not."""
    if unknown := set(facts.config.output.silenced) - {rule.code for rule in RULES}:
        what = f"there is no advice {', '.join(sorted(unknown))}"
        raise ConfigError(Problem("E-CFG-159", what, "output.silenced", "`impasto plan` shows the codes"))
    for rule in RULES:
        if rule.code not in facts.config.output.silenced:
            yield from (Problem(rule.code, what, key, fix) for key, what, fix in rule.look(facts))


def page() -> str:
    """The list of all rules, for the reference."""
    lines = [
        "# Advice",
        "",
        "<!-- made by `python -m impasto.reference` -->",
        "",
        "`impasto plan` and `impasto train` give advice on what can be trained and is probably not meant. It never",
        "changes a run. `output.silenced` leaves single codes out, and with `--strict` any of it is refused.",
        "",
        "| code | about | why |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*lines, *(f"| {rule.code} | {rule.about} | {rule.reason} |" for rule in RULES)]) + "\n"

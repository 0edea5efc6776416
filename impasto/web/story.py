"""What a run told, in plain words: the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from impasto.web.digest import mean
from impasto.web.lines import number, text, whole

Level = Literal["error", "warning", "milestone", "note"]

_PHASES = {
    "scan": "looks at the pictures",
    "load": "loads the base model",
    "proof": "opens the written file and compares",
    "ranks": "cuts the adapter to ranks",
    "validation": "measures the loss with fixed noise",
}


@dataclass(frozen=True)
class Told:
    """A line of the log."""

    line: int
    time: float
    step: int | None
    level: Level
    code: str
    text: str


def tell(line: int, step: int, event: Mapping[str, Any]) -> Told | None:
    """An event in words; None for what is told by curves and pictures."""
    found = _words(event)
    if found is None:
        return None
    level, words = found
    at = whole(event.get("step")) if "step" in event else step or None
    return Told(line, number(event.get("time")) or 0.0, at, level, text(event.get("code")), words)


def _words(event: Mapping[str, Any]) -> tuple[Level, str] | None:
    step = whole(event.get("step"))
    match event["kind"]:
        case "started":
            since = whole(event.get("resumed_from"))
            went = f"goes on from step {since}" if since else "begins"
            return "milestone", f"{went}, {whole(event.get('steps'))} steps in all"
        case "phase":
            return _phase(event)
        case "preview":
            return "note", f"drew {text(event.get('file'))}"
        case "validated":
            loss = mean(event.get("losses")) or mean(event.get("training"))
            return None if loss is None else ("note", f"loss with fixed noise {loss:.4g}")
        case "saved":
            file = text(event.get("file"))
            return "milestone", f"saved {file}" if file else f"saved, and can go on from step {step}"
        case "proven":
            return _proof(event)
        case "picked":
            return _pick(event)
        case "ranked":
            ranks = event.get("files")
            return "milestone", f"cut to ranks {', '.join(ranks) if isinstance(ranks, dict) else ''}"
        case "warned":
            return "warning", text(event.get("text"))
        case "failed":
            return "error", text(event.get("text"))
        case "dropped":
            return "milestone", f"stopped by its sweep: {text(event.get('text'))}"
        case "halted":
            return "milestone", text(event.get("text"))
        case "finished":
            return "milestone", f"finished after {step} steps: {text(event.get('file'))}"
        case "noted":
            return "note", text(event.get("text"))
        case _:
            return None


def _phase(event: Mapping[str, Any]) -> tuple[Level, str] | None:
    """A phase is told when it begins; how far it is, the run's summary tells."""
    name = text(event.get("name"))
    if whole(event.get("done")) or name == "preview":
        return None
    return "note", _PHASES.get(name, f"{name}s" if " " not in name else name.replace(" ", "s ", 1))


def _proof(event: Mapping[str, Any]) -> tuple[Level, str]:
    matched, expected = whole(event.get("matched")), whole(event.get("expected"))
    level: Level = "milestone" if matched == expected else "warning"
    words = f"opened the written file with {text(event.get('reader')) or 'diffusers'}: {matched} of {expected} layers"
    difference = number(event.get("difference"))
    return level, words if difference is None else f"{words}, pictures differ by {difference:.2g}"


def _pick(event: Mapping[str, Any]) -> tuple[Level, str] | None:
    listed = event.get("candidates")
    found = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    best = next((each for each in found if each.get("recommended")), None)
    if best is None:
        return None
    return "milestone", f"recommends step {whole(best.get('step'))}: {text(best.get('reason'))}"

"""Plans of settings that are being written: made beside the requests, so that a first look through many pictures keeps
nobody waiting. Asking again with the same text tells how far it is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from impasto.config import RunConfig
from impasto.errors import Problem, UserError
from impasto.families import hub
from impasto.preflight.plan import plan
from impasto.store import Store
from impasto.web.plain import plain

PATIENCE = 0.6
"""Seconds for which a request waits for its plan."""
FRESH = 2.0
"""Seconds after which a plan is made anew: pictures may have changed."""
KEPT = 20


@dataclass
class Planned:
    """A plan, made or in the making."""

    key: str
    done: int = 0
    total: int = 0
    made: dict[str, Any] | None = None
    advice: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()
    ended: float = 0.0
    future: Future[None] = field(default_factory=Future)


class Planning:
    """Makes plans, two at a time; of those that wait, what nobody asks for any more is dropped."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="plan")
        self._plans: OrderedDict[str, Planned] = OrderedDict()
        self._turn = threading.Lock()

    def ask(self, text: str, config: RunConfig, *, patience: float = PATIENCE) -> Planned:
        """The plan of a text, if it is made in time; else how far it is."""
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        with self._turn:
            found = self._plans.get(key)
            if found is None or (found.ended and time.monotonic() - found.ended > FRESH):
                found = self._begin(key, config)
            self._plans.move_to_end(key)
        with contextlib.suppress(TimeoutError, CancelledError):
            found.future.result(timeout=patience)
        return found

    def close(self) -> None:
        """Begin nothing any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, key: str, config: RunConfig) -> Planned:
        for other in [each for each in self._plans.values() if each.key != key and each.future.cancel()]:
            del self._plans[other.key]
        while len(self._plans) >= KEPT:
            self._plans.popitem(last=False)
        found = self._plans[key] = Planned(key)
        found.future = self._pool.submit(self._make, found, config)
        return found

    def _make(self, found: Planned, config: RunConfig) -> None:
        def progress(done: int, total: int) -> None:
            found.done, found.total = done, total

        try:
            here, away = at_hand(config)
            if away:
                found.advice = tuple(away)
                return
            made = plan(here, self._store, progress)
            found.made, found.advice = plain(json.loads(made.json())), made.advice
        except UserError as error:
            found.problems = error.problems
        finally:
            found.ended = time.monotonic()


def at_hand(config: RunConfig) -> tuple[RunConfig, Sequence[Problem]]:
    """The settings with their bases as they are on this disk, and those that a run would fetch: the app fetches
    nothing."""
    model, missing = hub.at_hand(config.model)
    away = [
        Problem(
            "E-WEB-020", f"{where} is on the hub and not in this machine's cache, and the app fetches nothing",
            f"model.{name}", f"`hf download {where.repo}`; a run, or `impasto plan`, fetches it too",
        )
        for name, where in missing.items()
    ]  # fmt: skip
    return config.model_copy(update={"model": model}), away

"""Requests that the API's own description allows, and some that it does not: never a fault of the server.

IMPASTO_TEST_REQUESTS=2000 tries more of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote, urlencode

from impasto import events
from impasto.web import live
from impasto.web.app import create
from impasto.web.problems import Problems
from impasto.web.site import Site
from tests.web import made
from tests.web.raw import TOLD, ask

REQUESTS = int(os.environ.get("IMPASTO_TEST_REQUESTS", "300"))
SEED = int(os.environ.get("IMPASTO_TEST_SEED", "0"))

TEXTS = [
    "",
    "a",
    "runs:anna",
    "../x",
    "%00",
    "\x00",
    "é" * 50,
    "x" * 5000,
    "\ud800",
    "<script>",
    "1e999",
    "null",
    "-1",
    "☃",
]
NUMBERS: list[Any] = [0, 1, -1, 5, 10**9, 10**30, -(10**30), 0.5, 1e308, float("nan"), float("inf"), True]


class Dice:
    """Values for schemas: mostly what they ask for."""

    def __init__(self, description: Mapping[str, Any], seed: int) -> None:
        self.random = random.Random(seed)
        self._schemas = description["components"]["schemas"]

    def value(self, schema: Mapping[str, Any], depth: int = 0) -> Any:
        """A value that fits, most of the time."""
        if self.random.random() < 0.05 or depth > 6:
            return self.anything()
        if "$ref" in schema:
            return self.value(self._schemas[schema["$ref"].rsplit("/", 1)[-1]], depth + 1)
        for several in ("anyOf", "oneOf", "allOf"):
            if several in schema:
                return self.value(self.random.choice(schema[several]), depth + 1)
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        if "const" in schema:
            return schema["const"]
        match schema.get("type"):
            case "object":
                return self._object(schema, depth)
            case "array":
                count = self.random.choice([0, 1, 2, schema.get("minItems", 0)])
                return [self.value(schema.get("items", {}), depth + 1) for _ in range(count)]
            case "string":
                return self.random.choice(TEXTS)
            case "integer":
                return self.random.choice([schema.get("minimum", 0), schema.get("maximum", 9), 1, 2, *NUMBERS[:7]])
            case "number":
                return self.random.choice(NUMBERS)
            case "boolean":
                return self.random.random() < 0.5
            case "null":
                return None
            case _:
                return self.anything()

    def anything(self) -> Any:
        """Whatever JSON can hold, and a little more."""
        deep: Any = 1
        for _ in range(50):
            deep = [deep]
        return self.random.choice([None, {}, [], deep, {"a": {"b": []}}, *TEXTS, *NUMBERS])

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        found = {}
        for name, inner in schema.get("properties", {}).items():
            if self.random.random() < (0.95 if name in schema.get("required", ()) else 0.5):
                found[name] = self.value(inner, depth + 1)
        if schema.get("additionalProperties") or self.random.random() < 0.05:
            more = schema.get("additionalProperties")
            inner = more if isinstance(more, dict) else {}
            found[self.random.choice([*TEXTS, "adapter.rank", "name"])] = self.value(inner, depth + 1)
        return found


def operations(description: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            if "stream" not in path:  # a stream has no end
                yield method.upper(), path, operation


def request(
    dice: Dice, method: str, path: str, operation: Mapping[str, Any]
) -> tuple[str, bytes, list[tuple[bytes, bytes]]]:
    """A target, a body and headers for an operation."""
    query, headers = {}, list(TOLD)
    for parameter in operation.get("parameters", ()):
        value = _text(dice.value(parameter["schema"]))
        if parameter["in"] == "path":
            known = dice.random.random() < 0.6
            value = {"id": "runs:anna", "name": "00000020-0.png", "job": "1", "lane": "cpu"}.get(
                parameter["name"], value
            ) if known else value or "x"  # fmt: skip
            path = path.replace("{" + parameter["name"] + "}", quote(value, safe=""))
        elif parameter["in"] == "query" and dice.random.random() < 0.7:
            query[parameter["name"]] = value
        elif parameter["in"] == "header" and dice.random.random() < 0.5:
            headers.append((parameter["name"].lower().encode(), value.encode("latin-1", "replace")))
    body = b""
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        body = json.dumps(dice.value(content["application/json"]["schema"])).encode()
        if dice.random.random() < 0.05:
            body = bytes(dice.random.randrange(256) for _ in range(40))
        headers.append((b"content-type", b"application/json"))
    elif content:
        body = dice.random.choice(string.printable).encode() * dice.random.choice([0, 1, 1000])
        headers.append((b"content-type", b"application/octet-stream"))
    return path + ("?" + urlencode(query) if query else ""), body, headers


def _text(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode()


def test_no_request_is_too_much_for_the_server(site: Site, tmp_path: Path) -> None:
    run = made.finished(tmp_path / "runs" / "anna")
    (run.checkpoint(20) / "state.json").write_text("{}")
    app = create(site)
    dice = Dice(app.openapi(), SEED)
    known = list(operations(app.openapi()))

    async def try_all() -> None:
        for number in range(max(REQUESTS, len(known))):
            method, path, operation = known[number % len(known)] if number < len(known) else dice.random.choice(known)
            target, body, headers = request(dice, method, path, operation)
            answer = await ask(app, method, target, body=body, headers=tuple(headers))
            assert answer.status < 500, (method, target, body, answer.body)
            if answer.status >= 400:
                Problems.model_validate_json(answer.body)
            assert b"Traceback" not in answer.body

    asyncio.run(try_all())


FIELDS = (
    "run", "steps", "resumed_from", "name", "done", "total", "step", "epoch", "loss", "rates", "norm", "seconds",
    "memory", "file", "prompt", "losses", "training", "candidates", "files", "checkpoint", "matched", "expected",
    "difference", "reader", "code", "text", "patience", "time",
)  # fmt: skip


def test_no_line_of_events_is_too_much_for_the_server(site: Site, tmp_path: Path) -> None:
    """Runs are folders that may come from anywhere: what they tell is believed in no respect."""
    app = create(site)
    dice = Dice({"components": {"schemas": {}}}, SEED)
    kinds = [each.model_fields["kind"].default for each in get_args(get_args(events.Event)[0])]
    for number in range(max(20, REQUESTS // 15)):
        run = made.run(tmp_path / "runs" / f"run-{number}")
        with run.events.open("wb") as file:
            for _ in range(40):
                told = {name: dice.anything() for name in FIELDS if dice.random.random() < 0.5}
                if dice.random.random() < 0.5:
                    told |= {"step": dice.random.randrange(50), "candidates": [{"step": 1, "file": dice.anything()}]}
                told |= {"version": 1, "kind": dice.random.choice([*kinds, dice.anything()])}
                file.write(json.dumps(told).encode() + b"\n")
        (run.path / "marks.json").write_text(json.dumps({"tags": dice.anything(), "note": dice.anything()}))
        (run.path / "record.json").write_text(json.dumps({"base": dice.anything(), "parent": {"run": dice.anything()}}))
        (run.path / "ledger.json").write_text(json.dumps({"pictures": [{"name": dice.anything()}]}))

    async def look() -> None:
        listed = json.loads((await ask(app, "GET", "/api/runs")).body)["runs"]
        assert listed
        for each in listed:
            for part in ("", "/series", "/log"):
                answer = await ask(app, "GET", f"/api/runs/{each['id']}{part}")
                assert answer.status == 200, (each["id"], part, answer.body)
        assert live.of(app).board._changes(), "and it can be told to all pages"

    asyncio.run(look())

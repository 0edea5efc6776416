"""Event streams: in order, from where one was, for many at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from impasto import events, lock
from impasto.events import EventLog
from impasto.web import board, shelf, stream
from impasto.web.live import Live
from impasto.web.site import Site
from impasto.web.stream import Tails
from impasto.web.views_queue import Job, Queue
from tests.web import made


def told(parts: list[bytes]) -> list[tuple[str, dict[str, Any]]]:
    """Ids and data of what came."""
    found = []
    for block in b"".join(parts).split(b"\n\n"):
        lines = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
        if b"id" in lines:
            found.append((lines[b"id"].decode(), json.loads(lines[b"data"])))
    return found


async def taken(source: AsyncIterator[bytes], count: int, patience: float = 10.0) -> list[bytes]:
    """Parts of a stream until `count` events have come."""
    parts: list[bytes] = []

    async def take() -> None:
        async for part in source:
            parts.append(part)
            if len(told(parts)) >= count:
                return

    await asyncio.wait_for(take(), patience)
    return parts


def noted(first: int, last: int) -> list[events.Event]:
    return [events.Noted(text=f"note {number}") for number in range(first, last)]


def in_a_loop(test: Callable[[Tails], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        tails = Tails(pause=0.01)
        try:
            await test(tails)
        finally:
            await tails.close()

    asyncio.run(run())


def test_a_listener_gets_what_was_and_then_what_comes(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"

    async def test(tails: Tails) -> None:
        with EventLog(path) as log:
            for each in noted(0, 5):
                log.write(each)
            source = tails.listen(path, 0)
            first = told(await taken(source, 5))
            assert [id for id, _ in first] == ["0", "1", "2", "3", "4"]
            for each in noted(5, 8):
                log.write(each)
            assert [data["text"] for _, data in told(await taken(source, 3))] == ["note 5", "note 6", "note 7"]
            await source.aclose()  # type: ignore[attr-defined]

    in_a_loop(test)


def test_a_listener_that_was_away_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"

    async def test(tails: Tails) -> None:
        with EventLog(path) as log:
            for each in noted(0, 3000):  # more than are handed round: read from the file
                log.write(each)
        for last in (0, 10, 2489, 2998):
            found = told(await taken(tails.listen(path, stream.after(str(last))), 2999 - last))
            assert [int(id) for id, _ in found] == list(range(last + 1, 3000))

    in_a_loop(test)


@pytest.mark.parametrize("last", ["", "x", "-5", "9" * 30, "1.5", "\x00"])
def test_an_id_that_is_none_begins_at_the_beginning(last: str) -> None:
    assert stream.after(last) == 0


def test_an_id_of_another_file_is_told_to_begin_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"

    async def test(tails: Tails) -> None:
        with EventLog(path) as log:
            for each in noted(0, 3):
                log.write(each)
            source = tails.listen(path, 500)
            parts = await taken(source, 3)
            assert stream.ANEW in parts
            assert [id for id, _ in told(parts)] == ["0", "1", "2"]
        path.unlink()
        await asyncio.sleep(0.05)
        with EventLog(path) as log:
            log.write(events.Noted(text="a new run"))
        parts = await taken(source, 1)
        assert stream.ANEW in parts
        assert told(parts)[0][1]["text"] == "a new run"

    in_a_loop(test)


def test_half_a_line_is_not_told_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"

    async def test(tails: Tails) -> None:
        path.write_bytes(b'{"a":1}\n{"b":')
        source = tails.listen(path, 0)
        assert told(await taken(source, 1)) == [("0", {"a": 1})]
        await asyncio.sleep(0.05)
        with path.open("ab") as file:
            file.write(b"2}\n")
        assert told(await taken(source, 1)) == [("1", {"b": 2})]

    in_a_loop(test)


def test_a_hundred_listeners_get_all_events_in_order(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    count = 200

    async def test(tails: Tails) -> None:
        async def listen(slow: bool) -> list[str]:
            found: list[bytes] = []
            async for part in tails.listen(path, 0):
                found.append(part)
                if slow:
                    await asyncio.sleep(0.02)
                if len(found) % 8 == 0 and len(told(found)) >= count:
                    break
                if told([part]) and told([part])[-1][0] == str(count - 1):
                    break
            return [id for id, _ in told(found)]

        listeners = [asyncio.create_task(listen(number % 10 == 0)) for number in range(100)]
        with EventLog(path) as log:
            for at, each in enumerate(noted(0, count)):
                log.write(each)
                if at % 10 == 0:
                    await asyncio.sleep(0.005)
        for found in await asyncio.wait_for(asyncio.gather(*listeners), 30):
            assert found == [str(number) for number in range(count)]
        assert not tails._tails, "nobody listens any more, so nobody looks"

    in_a_loop(test)


def test_the_line_is_not_told_for_every_step() -> None:
    job = Job(
        id=1, state="running", reason="", lane=None, worker="cpu", runs=[], names=[], step=5, total=9, attempts=1,
        added=0.0, changed=0.0, position=None,
    )  # fmt: skip
    line = Queue(lanes=[], jobs=[job], warning="")
    further = line.model_copy(update={"jobs": [job.model_copy(update={"step": 6})]})
    ended = line.model_copy(update={"jobs": [job.model_copy(update={"state": "done"})]})
    assert board._is_news(line, None, 0.0)
    assert not board._is_news(line, line, 99.0)
    assert not board._is_news(further, line, 1.0)
    assert board._is_news(further, line, 6.0)
    assert board._is_news(ended, line, 0.0)


def test_the_board_tells_what_changes(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf.Shelf.summaries, "__kwdefaults__", {"patience": -1.0})
    run = made.run(tmp_path / "runs" / "anna")

    async def test() -> None:
        live = Live(site)
        live.board._pause = 0.02
        looking = asyncio.create_task(live.board.watch())
        source = live.board.listen("")
        (sync,) = told(await taken(source, 1))
        assert sync[1] == {"kind": "sync"}
        first = dict((data["kind"], data) for _, data in told(await taken(source, 2)))
        assert first["run"]["run"]["state"] == "planned"
        with lock.Lock(run.lock):
            made.tell(run, events.Started(run="anna", steps=9), *made.steps(1, 2))
            (change,) = told(await taken(source, 1))
            assert (change[1]["run"]["state"], change[1]["run"]["step"]) == ("training", 2)
        (change,) = told(await taken(source, 1))
        assert change[1]["run"]["state"] == "lost"
        again = live.board.listen(sync[0])
        assert [data["kind"] for _, data in told(await taken(again, 4))] == ["run", "queue", "run", "run"]
        run.path.rename(tmp_path / "gone")
        assert told(await taken(again, 1))[0][1] == {"kind": "gone", "id": "runs:anna"}
        for stale in ("0-5", "x", f"{sync[0].partition('-')[0]}-99999"):
            assert told(await taken(live.board.listen(stale), 1))[0][1] == {"kind": "sync"}
        looking.cancel()

    asyncio.run(test())

"""Events are whole lines: half ones are nobody's, and telling them never stops a run."""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from impasto import events, files
from impasto.events import (
    Candidate,
    Dropped,
    Event,
    EventLog,
    Failed,
    Finished,
    Noted,
    Phase,
    Picked,
    Preview,
    Proven,
    Ranked,
    Resumed,
    Saved,
    Started,
    Step,
    Validated,
    Warned,
)
from tests.files import faults

ALL: list[Event] = [
    Started(run="anna", steps=10, resumed_from=4),
    Phase(name="encode", done=3, total=9),
    Step(step=1, epoch=0, loss=0.25, rates={"unet": 1e-4}, norm=0.5, seconds=0.1, skipped=2, memory=2**34),
    Preview(step=1, file="00000001-0.png", prompt=0),
    Validated(step=1, losses={"100": 0.1, "900": 0.3}, training={"100": 0.1, "900": 0.2}, pictures=2),
    Picked(
        step=1,
        candidates=(
            Candidate(
                step=1,
                file="a-best.safetensors",
                reason="the lowest",
                recommended=True,
                measured_at=1,
                losses={"100": 0.1},
                training={"100": None},
            ),
        ),
    ),
    Dropped(step=1, text="others did better"),
    Ranked(step=1, pictures="training", count=4, losses={"0": {"100": 0.2}, "4": {"100": 0.1}}, files={"4": "a"}),
    Saved(step=1, file="adapters/a.safetensors", checkpoint="00000001"),
    Proven(step=1, matched=32, expected=32, difference=0.0),
    Warned(code="W-DAT-001", text="two pictures are alike"),
    Resumed(step=1),
    Failed(code="E-NUM-001", text="the numbers left"),
    Finished(step=10, seconds=12.5, file="anna.safetensors"),
    Noted(text="«ä» \u2028 and\nmore"),
]


def step(number: int, loss: float = 0.5) -> Step:
    return Step(step=number, epoch=0, loss=loss, rates={"unet": 1e-4})


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    ticks = iter(range(1, 10_000))
    with EventLog(tmp_path / "events.jsonl", clock=lambda: float(next(ticks))) as log:
        yield log


def test_every_kind_comes_back_as_it_was_told(log: EventLog) -> None:
    for event in ALL:
        log.write(event)

    told = log.read()
    assert [event.model_copy(update={"time": 0.0}) for event in told] == ALL
    assert [event.time for event in told] == [float(number) for number in range(1, len(ALL) + 1)]
    assert {event.kind for event in ALL} == {json.loads(line)["kind"] for line in log.path.read_bytes().splitlines()}


def test_a_number_that_is_none_is_told_as_none(log: EventLog) -> None:
    log.write(step(1, float("nan")))
    log.write(Validated(step=1, losses={"100": float("inf")}))
    told = log.read()
    assert isinstance(told[0], Step)
    assert told[0].loss is None
    assert b"NaN" not in log.path.read_bytes()


def test_what_was_measured_is_read_by_step_as_it_was_told_last(log: EventLog) -> None:
    for step, loss in ((10, 0.5), (20, 0.4), (30, 0.6)):
        log.write(Validated(step=step, losses={"125": loss, "875": loss + 0.1}, training={"125": 0.25, "875": 0.25}))
    log.write(Resumed(step=10))
    log.write(Validated(step=20, losses={}, training={"125": 0.25, "875": None}))
    found = events.measured(log.read())
    assert list(found) == [10, 20]
    assert found[10].score == found[10].loss == pytest.approx(0.55)
    assert found[10].gap == pytest.approx(0.3)
    assert (found[20].loss, found[20].gap, found[20].score) == (None, None, None)


def test_a_measurement_of_an_earlier_version_is_read() -> None:
    found = events.parse('{"kind":"validated","version":1,"time":1.0,"step":5,"losses":{"100":0.5}}')
    assert isinstance(found, Validated)
    assert (found.score, found.training) == (0.5, {})


def test_a_name_that_is_no_text_can_be_told(log: EventLog) -> None:
    log.write(Noted(text="bad \udcff name"))
    assert log.read()[0] == Noted(text="bad \\udcff name", time=1.0)


def test_an_event_is_closed_and_strict() -> None:
    with pytest.raises(ValidationError):
        Saved(step="1")  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Saved(step=1, colour="red")  # type: ignore[call-arg]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_half_line_left_by_a_kill_is_nobodys(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        for number in (1, 2, 3):
            log.write(step(number))
    path.write_bytes(path.read_bytes()[:-cut])
    assert [event.step for event in events.read(path) if isinstance(event, Step)] == [1, 2]

    with EventLog(path) as log:
        log.write(step(4))

    whole = [3] if cut == 1 else []
    assert [event.step for event in events.read(path) if isinstance(event, Step)] == [1, 2, *whole, 4]


def test_damaged_unknown_and_later_lines_are_left_out(log: EventLog) -> None:
    log.write(step(1))
    with log.path.open("ab") as file:
        file.write(b'{"kind":"danced"}\n\xff\xfe\n\0\0\0\0\n\n[1]\n{"version":2,"kind":"noted","text":"x"}\n{"kind":\n')
    log.write(step(2))
    assert [event.kind for event in log.read()] == ["step", "step"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_disk_that_takes_no_events_never_stops_a_run(
    log: EventLog, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    log.write(step(1))
    monkeypatch.setattr(files, "System", faults.Disk(1, faults.full(number), from_then_on=True))
    for at in (2, 3, 4):
        log.write(step(at))
    monkeypatch.undo()
    assert log.dropped == 3

    log.write(step(5))

    told = log.read()
    assert [event.step for event in told if isinstance(event, Step)] == [1, 5]
    assert isinstance(told[-1], Warned)
    assert "3 events" in told[-1].text


def test_a_log_that_cannot_even_be_opened_never_stops_a_run(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "nowhere" / "events.jsonl")
    log.write(step(1))
    assert log.dropped == 1
    (tmp_path / "nowhere").mkdir()
    log.write(step(2))
    assert [event.kind for event in log.read()] == ["step", "warned"]
    log.close()


@pytest.mark.parametrize("fault", [faults.killed, faults.killed_half_way])
def test_killed_at_any_call_the_events_before_are_there(tmp_path: Path, fault: faults.Fault) -> None:
    for at in range(1, 5):
        path = tmp_path / f"{at}.jsonl"
        with EventLog(path) as log:
            log.write(step(1))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "System", faults.Disk(at, fault, forked=False))
            with pytest.raises(faults.Gone), EventLog(path) as log:
                log.write(Saved(step=2, checkpoint="00000002"))
        with EventLog(path) as log:
            log.write(step(3))
        kinds = [event.kind for event in events.read(path)]
        assert kinds in (["step", "step"], ["step", "saved", "step"])


def test_what_matters_is_synced_and_steps_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = faults.Disk()
    monkeypatch.setattr(files, "System", disk)
    with EventLog(tmp_path / "events.jsonl") as log:
        log.write(step(1))
        assert [name for name, _ in disk.calls] == ["open", "write"]
        log.write(Saved(step=1, checkpoint="00000001"))
        assert [name for name, _ in disk.calls] == ["open", "write", "write", "fsync"]


def test_a_follower_sees_every_event_once_and_in_order(log: EventLog) -> None:
    told: list[Event] = []
    done = threading.Event()

    def watch() -> None:
        told.extend(events.follow(log.path, done.is_set, pause=0.001))

    watcher = threading.Thread(target=watch)
    watcher.start()  # before there is a file
    for number in range(1, 201):
        log.write(step(number))
        if number == 100:
            with log.path.open("ab") as file:  # a line that comes in two halves
                file.write(b'{"kind":"noted",')
                file.flush()
                time.sleep(0.01)
                file.write(b'"text":"halves"}\n')
    done.set()
    watcher.join(10)

    assert [event.step for event in told if isinstance(event, Step)] == list(range(1, 201))
    assert sum(isinstance(event, Noted) for event in told) == 1


def test_a_reader_goes_on_from_its_offset(log: EventLog) -> None:
    log.write(step(1))
    told, offset = events.tail(log.path)
    log.write(step(2))
    later, _ = events.tail(log.path, offset)
    assert [event.kind for event in told] == ["step"]
    assert later == log.read()[1:]


def test_a_file_that_begins_anew_is_read_from_its_beginning(log: EventLog) -> None:
    for number in (1, 2, 3):
        log.write(step(number))
    _, offset = events.tail(log.path)
    log.path.unlink()
    with EventLog(log.path) as again:
        again.write(step(1))
    assert len(events.tail(log.path, offset)[0]) == 1


def test_a_history_tells_every_step_once_by_its_last_telling() -> None:
    told: list[Event] = [
        Started(run="a", steps=6),
        step(1, 0.1), step(2, 0.2), Saved(step=2, checkpoint="00000002"), step(3, 0.3), Warned(code="W", text="w"),
        Preview(step=3, file="3-0.png", prompt=0),
        Started(run="a", steps=6, resumed_from=2), Resumed(step=2),
        step(3, 0.33), step(4, 0.4), step(5, 0.5),
        Resumed(step=4),
        step(5, 0.55), step(6, 0.6),
    ]  # fmt: skip

    history = events.history(told)

    steps = [(event.step, event.loss) for event in history if isinstance(event, Step)]
    assert steps == [(1, 0.1), (2, 0.2), (3, 0.33), (4, 0.4), (5, 0.55), (6, 0.6)]
    assert not any(isinstance(event, Preview) for event in history), "it will be drawn again"
    assert sum(isinstance(event, Saved | Warned) for event in history) == 2


def test_a_run_that_begins_anew_takes_back_everything() -> None:
    told: list[Event] = [Started(run="a", steps=6), step(1), step(2), Started(run="a", steps=6), step(1)]
    assert [event.kind for event in events.history(told)] == ["started", "started", "step"]

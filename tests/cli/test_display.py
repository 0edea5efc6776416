"""What is shown while training: on a terminal, in a log, for one member and for many."""

from __future__ import annotations

import io
from pathlib import Path

from impasto import events
from impasto.cli.display import Lines, Row, watching
from impasto.cli.text import amount, columns, duration

ANNA, BEN = Path("runs/anna"), Path("runs/ben")


def step(number: int, loss: float | None = 0.5, seconds: float | None = 0.1) -> events.Step:
    rates = {"unet": 1e-4, "text_encoder": 5e-5}
    return events.Step(step=number, epoch=0, loss=loss, rates=rates, seconds=seconds, memory=3_000_000_000)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_holds_progress_loss_pace_rate_and_memory() -> None:
    row = Row("anna")
    for event in (events.Started(run="anna", steps=1000), step(1), step(2)):
        assert row.take(event) is None
    assert row.line() == "anna 2/1000  loss 0.5  10 steps/s  1:39 left  rate 0.0001/5e-05  3 GB"


def test_the_loss_is_smoothed_and_survives_steps_without_a_number() -> None:
    row = Row("anna")
    for event in (step(1, loss=1.0), step(2, loss=None), step(3, loss=2.0)):
        row.take(event)
    assert row.loss == 1.05


def test_what_is_worth_a_line_stays() -> None:
    row = Row("anna")
    told: list[events.Event] = [
        events.Started(run="anna", steps=9, resumed_from=4),
        events.Resumed(step=4),
        events.Phase(name="encode", done=3, total=12),
        events.Preview(step=5, file="x.png", prompt=0),
        events.Validated(step=5, losses={"100": 0.5, "500": None}, training={"100": 0.25, "500": 0.5}),
        events.Validated(step=5, losses={"100": 0.5, "500": 1.0}, training={"100": 0.25, "500": 0.5}, pictures=2),
        events.Saved(step=5, file="a.safetensors"),
        events.Proven(step=5, matched=60, expected=60, difference=0.0),
        events.Warned(code="W-1", text="beware"),
        events.Noted(text="a remark"),
        events.Failed(code="E-1", text="why"),
        events.Finished(step=9, seconds=75.0, file="a.safetensors"),
    ]
    lines = [row.take(event) for event in told]
    assert lines == [
        "goes on from step 4", None, None, "step 5: drew x.png",
        "step 5: loss on held-out pictures not finite, on training pictures 0.375",
        "step 5: loss on held-out pictures 0.75, on training pictures 0.375 (gap +0.375)",
        "step 5: saved a.safetensors", "step 5: proof, 60 of 60 layers found their place", "beware", "a remark",
        "failed: why", "finished 9 steps in 1:15: a.safetensors",
    ]  # fmt: skip


def test_a_log_gets_a_line_every_few_seconds_and_the_last_one() -> None:
    out, now = io.StringIO(), [0.0]
    lines = Lines(out, every=5.0, clock=lambda: now[0])
    lines.show(ANNA, events.Started(run="anna", steps=100))
    for number in range(1, 101):
        now[0] += 0.125
        lines.show(ANNA, step(number))
    told = out.getvalue().splitlines()
    assert [line.split()[1] for line in told] == ["1/100", "41/100", "81/100", "100/100"]
    assert "\x1b" not in out.getvalue()


def test_members_are_told_apart() -> None:
    out = io.StringIO()
    lines = Lines(out, every=0.0)
    for folder in (ANNA, BEN):
        lines.show(folder, events.Started(run=folder.name, steps=2))
        lines.show(folder, step(1))
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["anna", "ben"]


def test_without_a_terminal_there_are_plain_lines() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace", write_through=True)
    with watching(1, out, plain=False) as show:
        show(Path("runs/größe"), events.Started(run="x", steps=2))
        show(Path("runs/größe"), step(1))
    assert isinstance(out.buffer, io.BytesIO)
    assert out.buffer.getvalue().startswith(b"gr\\xf6\\xdfe 1/2")


def test_a_terminal_gets_one_line_for_each_member() -> None:
    out = Terminal()
    with watching(2, out, plain=False) as show:
        for folder in (ANNA, BEN):
            show(folder, events.Started(run=folder.name, steps=2))
            show(folder, step(1))
        show(ANNA, events.Saved(step=1, file="[bold]a.safetensors"))
    told = out.getvalue()
    assert "anna 1/2" in told
    assert "ben 1/2" in told
    assert "saved [bold]a.safetensors" in told


def test_numbers_are_short() -> None:
    assert [amount(size) for size in (0, 999, 44_500, 3e9, 5e13)] == ["0 B", "999 B", "44.5 KB", "3 GB", "50 TB"]
    assert [duration(seconds) for seconds in (0, 65, 3725, float("inf"))] == ["0:00", "1:05", "1:02:05", "0:00"]
    assert columns(["a", "long"], [["wider", "x"], ["", ""]]) == "a      long\nwider  x\n"


def test_where_the_time_went_is_told_at_the_start_and_at_the_end() -> None:
    row = Row("anna")
    row.take(events.Started(run="anna", steps=9))
    start = events.Spent(step=0, seconds=4.25, parts={"scan": 0.05, "load": 3.0, "encode": 1.2}, expected=0.5)
    assert (
        row.take(start) == "ready after 4.2 s: load 3.0 s, encode 1.2 s; a step took 0.5 s in earlier runs of this kind"
    )
    row.take(step(1))
    assert row.take(events.Spent(step=8, steps=8, seconds=10.0, parts={"forward": 8.0}, expected=0.5)) is None
    assert "10 steps/s (usual 2)" in row.line()
    finished = row.take(events.Finished(step=9, seconds=75.0, file="a.safetensors"))
    assert finished is not None
    assert finished.splitlines()[1] == "  time went into forward 65%, load 24%, encode 10%"

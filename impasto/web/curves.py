"""Curves with as many points as a screen can show; peaks and valleys stay."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from impasto.web.tape import Column, Tape
from impasto.web.views import Line, Marker, Series

MARKERS = 500


def series(tape: Tape, *, points: int, after: int, batch: int | None) -> Series:
    """The curves of a tape, of steps beyond `after`, thinned to at most `points` each."""
    markers = [
        Marker(step=step, time=time, kind=kind, text=text)
        for step, time, kind, text in tape.markers[-MARKERS:]
        if step > after
    ]
    return Series(
        series={name: _thinned(column, points, after) for name, column in list(tape.columns.items())},
        markers=markers,
        epoch_steps=_epoch_steps(tape),
        batch=batch,
        events=tape.mark.lines,
    )


def chosen(y: NDArray[np.float64], points: int) -> NDArray[np.intp]:
    """Which points to keep: the first, the last, and the lowest and the highest of each of `points / 2` stretches."""
    count = len(y)
    if count <= points:
        return np.arange(count)
    stretches = max(1, (points - 2) // 2)
    width = math.ceil(count / stretches)
    padded = np.full(width * stretches, np.nan)
    padded[:count] = y
    table = padded.reshape(stretches, width)
    starts = np.arange(stretches) * width
    low = starts + np.where(np.isnan(table), np.inf, table).argmin(axis=1)
    high = starts + np.where(np.isnan(table), -np.inf, table).argmax(axis=1)
    found: NDArray[np.intp] = np.unique(np.concatenate([[0, count - 1], low, high]).astype(np.intp))
    return found[found < count]


def _thinned(column: Column, points: int, after: int) -> Line:
    x = np.array(column.x, dtype=np.int64)
    begin = int(np.searchsorted(x, after, side="right"))
    y = np.array(column.y, dtype=np.float64)[begin : len(x)]
    at = chosen(y, points)
    return Line(
        x=x[begin:][at].tolist(),
        t=np.array(column.t, dtype=np.float64)[begin:][at].tolist(),
        y=[None if math.isnan(each) else each for each in y[at].tolist()],
    )


def _epoch_steps(tape: Tape) -> int | None:
    """Steps of an epoch, as far as it can be told: those of the first whole one."""
    epochs = np.array(tape.epochs.y, dtype=np.float64)
    changes = np.flatnonzero(np.diff(epochs) > 0)
    if not len(changes):
        return None
    steps = tape.epochs.x[int(changes[0])]
    whole = int(epochs[int(changes[0])]) + 1
    return max(1, round(steps / whole))

"""What an adapter will ride on: each layer's block, size and rate, told before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

from impasto import adapters, families
from impasto.adapters.targets import Part, Role, Seat, Stage
from impasto.config import RunConfig
from impasto.engine.member import trained
from impasto.families import detect
from impasto.rates import lora_plus, rate_of


@dataclass(frozen=True)
class Row:
    """One adapted layer."""

    name: str
    part: Part
    encoder: int | None
    block: int | None
    stage: Stage | None
    role: Role
    shape: tuple[int, ...]
    rank: int | None
    alpha: float | None
    scale: float
    """What the adapter's output is multiplied by."""

    rate: float
    """The learning rate, before its schedule."""

    plus: float | None
    """The rate of LoRA's `up`, where LoRA+ makes it another."""


def look(config: RunConfig) -> list[Row]:
    """Every layer that gets an adapter, in the order of the model. Reads no weights.

    Raises ConfigError when blocks or rules do not fit the base, ModelFileError when the base is none.
    """
    targets = trained(config, families.outline(detect.look(config.model, heads=True)))
    return [_row(seat, config) for seat in adapters.seats(config.adapter, targets)]


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A line for all layers of a block that are alike: block, what they do, how many, rank, alpha, scale, rate."""
    return [
        [_place(alike[0]), alike[0].role, str(len(alike)), *_size(alike[0]), f"{alike[0].rate:.4g}"]
        for alike in grouped(rows)
    ]


HEAD = ["block", "role", "layers", "rank", "alpha", "scale", "rate"]


def grouped(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of a block that are alike, together; blocks by their number."""

    def key(row: Row) -> tuple[object, ...]:
        return (
            row.part,
            row.encoder or 0,
            -1 if row.block is None else row.block,
            row.role,
            row.rank or 0,
            row.alpha or 0.0,
            row.rate,
        )

    order = {row.part: at for at, row in reversed(list(enumerate(rows)))}
    found = sorted(rows, key=lambda row: (order[row.part], *key(row)))
    return [list(alike) for _, alike in groupby(found, key=key)]


def described(rows: Sequence[Row]) -> list[dict[str, object]]:
    """The rows as plain values, for other programs."""
    return [asdict(row) for row in rows]


def _row(seat: Seat, config: RunConfig) -> Row:
    target, size = seat.target, seat.size
    rate = rate_of(config, target.part, target.encoder) * seat.rate
    ratio = lora_plus(config).get(target.part)
    return Row(
        name=target.name, part=target.part, encoder=target.encoder,
        block=target.number, stage=target.block.stage if target.block else None, role=target.role,
        shape=tuple(target.base.weight.shape),
        rank=size.rank if size else None, alpha=size.alpha if size else None,
        scale=size.alpha / size.rank if size else 1.0,
        rate=rate, plus=None if ratio is None else rate * ratio,
    )  # fmt: skip


def _place(row: Row) -> str:
    if row.block is not None:
        return f"{row.block} {row.stage}"
    return row.part if row.encoder is None else f"{row.part} {row.encoder}"


def _size(row: Row) -> list[str]:
    if row.rank is None or row.alpha is None:
        return ["", "", "1"]
    return [str(row.rank), f"{row.alpha:.4g}", f"{row.scale:.4g}"]

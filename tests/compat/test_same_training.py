"""Twelve imported examples: steps, epochs, buckets, rates and layers are those of the formulas for sd-scripts, or the
import says which mark makes them better."""

from __future__ import annotations

import json
import math
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from impasto import adapters, families
from impasto.adapters.targets import Target
from impasto.compat.command import parse, words
from impasto.compat.translate import Translation
from impasto.config import RunConfig
from impasto.data.buckets import layout
from impasto.data.plan import Plan, batches
from impasto.data.pools import Entry, Pool
from impasto.engine.member import trained
from impasto.optim.schedules import factor
from impasto.settings import toml
from tests.adapters.test_golden import one_of_each
from tests.compat import examples

TWELVE = [
    "gui/standard", "gui/standard-blocks", "gui/standard-block-dims", "gui/locon-kohya", "gui/lora-fa",
    "gui/dylora-kohya", "gui/lycoris-locon", "gui/lycoris-lokr-small", "gui/lycoris-glora", "toml/sections",
    "toml/buckets", "command/posix",
]  # fmt: skip
PICTURES = [(640, 480), (480, 640), (1920, 1080), (1000, 1500), (700, 699), (513, 511), (880, 1000), (1000, 880),
            (2000, 900), (768, 768), (512, 768), (300, 600)]  # fmt: skip
REPEATS = [10, 3, 1, 2, 5, 1, 4, 4, 1, 2, 3, 7]


@pytest.fixture(autouse=True)
def _among_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(examples.HERE)


def _path(name: str) -> Path:
    return next(each for each in examples.FILES if examples.name(each) == name)


@cache
def _said(name: str) -> dict[str, Any]:
    """What the file says, read by hand: arguments of sd-scripts, in the form they have there."""
    path = _path(name)
    if name.startswith("gui/"):
        held = json.loads(path.read_text("utf-8"))
        usual = {
            "lr_warmup": 10, "learning_rate": 1e-4, "lr_scheduler": "cosine", "max_resolution": "512,512",
            "enable_bucket": True, "bucket_no_upscale": True, "min_bucket_reso": 256, "max_bucket_reso": 2048,
        }  # fmt: skip
        held = {**usual, **held}
        warm = held.get("lr_warmup_steps") or float(held["lr_warmup"]) / 100
        epochs = None if int(held.get("max_train_steps") or 0) else held["epoch"]
        return {**held, "resolution": held["max_resolution"], "warm": warm, "epochs": epochs,
                "steps": int(held.get("max_train_steps") or 0)}  # fmt: skip
    if name.startswith("toml/"):
        held = {}
        for key, value in toml.read(path).values.items():
            held |= value if isinstance(value, dict) else {key: value}
    else:
        given = parse(words(path.read_text("utf-8"), name), name).args
        held = {key: each.value for key, each in given.items()}
    return {
        **held,
        "warm": float(held.get("lr_warmup_steps") or 0),
        "epochs": int(held["max_train_epochs"]),
        "steps": 0,
    }


def _made(name: str, *, exact: bool = True) -> Translation:
    return examples.imported(_path(name), exact=exact)


# -- buckets: how sd-scripts finds them -------------------------------------------------------------------------------


def _bucket(said: dict[str, Any], size: tuple[int, int]) -> tuple[int, int]:
    parts = [int(each) for each in str(said.get("resolution", "512")).split(",")]
    wide, high = parts[0], parts[-1]
    if not said.get("enable_bucket"):
        return wide, high
    step, area = int(said.get("bucket_reso_steps", 64)), wide * high
    ratio = size[0] / size[1]
    if said.get("bucket_no_upscale"):
        return _without_enlarging(size, area, step)
    low = int(said.get("min_bucket_reso", 256)) // step * step
    top = math.ceil(int(said.get("max_bucket_reso", 1024)) / step) * step
    square = step * int(math.sqrt(area) // step)
    sizes = {(square, square)}
    for w in range(low, top + 1, step):
        h = min(top, step * int(area // w // step))
        if h >= low:
            sizes |= {(w, h), (h, w)}
    return size if size in sizes else min(sorted(sizes), key=lambda each: abs(each[0] / each[1] - ratio))


def _without_enlarging(size: tuple[int, int], area: int, step: int) -> tuple[int, int]:
    ratio, resized = size[0] / size[1], size
    if size[0] * size[1] > area:
        w = math.sqrt(area * ratio)
        h = area / w
        round_w, round_h = int(w + 0.5) // step * step, int(h + 0.5) // step * step
        other_h, other_w = int(round_w / ratio + 0.5), int(round_h * ratio + 0.5)
        by_width = abs(round_w / (int(round_w / ratio + 0.5) // step * step) - ratio)
        by_height = abs((int(round_h * ratio + 0.5) // step * step) / round_h - ratio)
        resized = (round_w, other_h) if by_width < by_height else (other_w, round_h)
    return resized[0] // step * step, resized[1] // step * step


def _pool(config: RunConfig, role: Any) -> Pool:
    dataset = next(each for each in config.data.sets if each.role == role)
    native = config.data.resolution_of(dataset, (512, 512))
    entries = tuple(
        Entry(f"picture {at}", times, layout(config.data, size, native, 64))
        for at, (size, times) in enumerate(zip(PICTURES, REPEATS, strict=True))
    )
    return Pool(role, config.data.batch_size_of(dataset), entries)


@pytest.mark.parametrize("name", TWELVE)
def test_buckets_are_those_of_there_or_better(name: str) -> None:
    said, config = _said(name), _made(name).config
    for size in PICTURES:
        native = config.data.resolution_of(config.data.sets[0], (512, 512))
        bucket = layout(config.data, size, native, 64).bucket
        assert (bucket.width, bucket.height) == _bucket(said, size), size
    plain = _made(name, exact=False)
    marks = {mark for each in plain.results for mark in each.quirks}
    assert not plain.config.data.buckets.enabled or "Q-D2" in marks
    assert plain.config.data.buckets.upscale or "Q-D3" in marks


@pytest.mark.parametrize("name", TWELVE)
def test_steps_are_those_of_there(name: str) -> None:
    said, config = _said(name), _made(name).config
    count = int(said.get("train_batch_size", 1))
    visits: Counter[tuple[int, int]] = Counter()
    for size, times in zip(PICTURES, REPEATS, strict=True):
        visits[_bucket(said, size)] += times
    per_epoch = sum(math.ceil(each / count) for each in visits.values())
    per_step = int(said.get("gradient_accumulation_steps", 1))
    wanted = said["steps"] or int(said["epochs"]) * math.ceil(per_epoch / per_step)
    plan = Plan((_pool(config, "train"),), seed=0, accumulate=config.train.accumulate)
    assert batches(plan.pools, 0, 0) == per_epoch
    assert plan.total_steps(config.train) == wanted
    assert plan.epochs_done(plan.steps_per_epoch) == 1


# -- rates ------------------------------------------------------------------------------------------------------------


def _factor(said: dict[str, Any], step: int, total: int) -> float:
    """The factor there, which begins a rise with 0."""
    warm = said["warm"]
    w = int(warm * total) if 0 < warm < 1 else int(warm)
    name = said.get("lr_scheduler", "constant")
    if step < w:
        return step / w
    p = (step - w) / (total - w)
    match name:
        case "constant" | "constant_with_warmup":
            return 1.0
        case "linear":
            return 1 - p
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * p))
        case "cosine_with_restarts":
            n = int(said["lr_scheduler_num_cycles"])
            return 0.5 * (1 + math.cos(math.pi * ((n * p) % 1.0))) if p < 1 else 0.0
        case "polynomial":
            return (1 - p) ** float(said["lr_scheduler_power"])
        case "inverse_sqrt":
            tau = w or 10_000
            return 1 / math.sqrt((step + tau - w) / tau)
    raise AssertionError(name)


@pytest.mark.parametrize("name", TWELVE)
def test_rates_are_those_of_there_at_every_step(name: str) -> None:
    said, made = _said(name), _made(name, exact=False)
    total, schedule = 400, made.config.optim.schedule
    for step in range(total):
        ours, theirs = factor(schedule, step, total), _factor(said, step, total)
        if ours == factor(schedule, step, total, first_step_zero=True):  # everywhere but on the rise
            assert ours == pytest.approx(theirs, abs=2e-7), step
        else:
            assert factor(schedule, step, total, first_step_zero=True) == pytest.approx(theirs), step
    warms = bool(schedule.warmup)
    assert warms == any("Q-O4" in each.quirks for each in made.results)


# -- layers -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def targets() -> list[Target]:
    """Every layer of Stable Diffusion 1.5 in full size, without its numbers."""
    return families.outline(None)


COUNTS = {
    "gui/standard": 192 + 72,
    "gui/standard-blocks": (4 + 1 + 9) * 12,  # blocks 1 and 2 have a factor of 0, and the text encoder has no rate
    "gui/standard-block-dims": 192 + 72,
    "gui/locon-kohya": 278 + 72,
    "gui/lora-fa": 192 + 72,
    "gui/dylora-kohya": 278 + 72,
    "gui/lycoris-locon": 278 + 72,  # and 4 that the import lists as left out
    "gui/lycoris-lokr-small": 128 + 48,
    "gui/lycoris-glora": 192,
    "toml/sections": 278 + 72,
    "toml/buckets": 192 + 72,
    "command/posix": 278 + 72,
}


def _shapes(kind: str, o: int, i: int, k: tuple[int, ...], r: int, said: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Tensors of a layer by the table of the kinds."""
    area = math.prod(k)
    found: dict[str, tuple[int, ...]] = {"alpha": ()}
    if kind in ("lora", "lora-fa", "dylora"):
        found |= {"lora_down.weight": (r, i, *k), "lora_up.weight": (o, r, *(1,) * len(k))}
        if said.get("dora_wd"):
            found["dora_scale"] = (o, *(1,) * (1 + len(k)))
    elif kind == "glora":
        found |= {"a1.weight": (i, r), "a2.weight": (r, i), "b1.weight": (o, r), "b2.weight": (r, i * area)}
        if k:
            found |= {name: (*shape, 1, 1) for name, shape in found.items() if shape}
    else:
        (o1, o2), (i1, i2) = _pair(o), _pair(i)
        if r < max(o1, i1) / 2:
            found |= {"lokr_w1_a": (o1, r), "lokr_w1_b": (r, i1)}
        else:
            found["lokr_w1"] = (o1, i1)
        if r < max(o2, i2) / 2:
            found |= {"lokr_w2_a": (o2, r), "lokr_w2_b": (r, i2 * area)}
        else:
            found["lokr_w2"] = (o2, i2, *k)
    return found


def _pair(size: int) -> tuple[int, int]:
    """The most even divisors."""
    low = next(each for each in range(math.isqrt(size), 0, -1) if size % each == 0)
    return low, size // low


@pytest.mark.parametrize("name", TWELVE)
def test_layers_are_those_of_there_in_name_number_and_shape(name: str, targets: list[Target]) -> None:
    said, config = _said(name), _made(name).config
    chosen = trained(config, targets)
    seats = adapters.seats(config.adapter, chosen)
    assert len(seats) == COUNTS[name]
    assert all(seat.target.name.startswith(("lora_unet_", "lora_te_text_model_encoder_layers_")) for seat in seats)
    dims = [int(each) for each in str(said["block_dims"]).split(",")] if said.get("block_dims") else None
    conv = {
        "gui/locon-kohya": 8,
        "gui/dylora-kohya": 32,
        "gui/lycoris-locon": 8,
        "toml/sections": 8,
        "command/posix": 8,
    }
    few = [seat for seat in seats if seat.target in one_of_each([each.target for each in seats])]
    bare = config.adapter.model_copy(update={"blocks": None})
    sizes = {seat.target.name: seat.sized for seat in few}
    tensors = adapters.build(bare, [seat.target for seat in few], seed=0, sizes=sizes).tensors()
    for seat in few:
        o, i, *k = seat.target.layer.weight.shape
        rank = int(said.get("network_dim", 4))
        if dims and seat.target.number is not None:
            rank = dims[seat.target.number]
        if seat.target.large:
            rank = conv[name]
        wanted = _shapes(config.adapter.kind, o, i, tuple(k), rank, said)
        held = {key.partition(".")[2]: tuple(value.shape) for key, value in tensors.items()
                if key.partition(".")[0] == seat.target.name}  # fmt: skip
        assert held == wanted, seat.target.name


def test_what_a_preset_has_beyond_ours_is_listed() -> None:
    lost = [each.reason for each in _made("gui/lycoris-locon").of("lost")]
    assert "conv_in, conv_out, time_embedding: no adapter is put there" in lost

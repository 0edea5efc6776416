"""What a card makes of denoisers of published sizes: steps a second, the share of its peak that is used, memory; alone,
compiled, many members at once; beside the plain loop of diffusers and peft on the same card, in the same run.

One is measured after the other, each with the card to itself: two of the larger ones do not fit.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F

from impasto.bench import roofline
from impasto.bench.clock import Clock, Span
from impasto.bench.figures import Figure, Report, machine
from impasto.bench.peers import ATTENTION
from impasto.bench.step import work_of
from impasto.config import RunConfig
from impasto.data.batch import Batch
from impasto.data.loader import Loader
from impasto.engine import loading, warming
from impasto.engine.config import Speed
from impasto.engine.device import Compute, choose
from impasto.engine.packing import packs
from impasto.engine.tapes import CudaGraphs
from impasto.engine.trainer import Trainer, draw
from impasto.errors import DeviceError, OutOfMemory
from impasto.families import bare, eight_products
from impasto.families.bare import Size
from impasto.families.quantized import quantize

WARM = 3
"""Steps that do not count."""

PLAIN = "diffusers and peft"
"""What the plain loop is called."""


@dataclass(frozen=True)
class Asked:
    """What is measured."""

    bases: tuple[str, ...] = bare.PUBLISHED
    rounds: int = 20
    rank: int = 16
    members: tuple[int, ...] = (1, 4, 8, 16)
    largest: int = 64
    """The largest batch that is tried."""

    compiled: bool = True
    fp8: bool = True
    backend: str = "inductor"
    precision: str = "auto"
    checkpointing: bool = False
    peak: float = 0.0
    """Operations a second that the card's maker promises, in 10^12; 0: that of the best product measured here."""

    threads: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Taken:
    """What some steps took."""

    seconds: tuple[float, ...]
    """Of each."""

    processor: tuple[float, ...]
    """Of each, of all threads of this process: on a busy machine they say more, and beside a GPU how busy the host is.
    """

    start: Span
    """Seconds before the first: the denoiser is made, and what is compiled is compiled."""

    memory: int
    """Bytes at the peak: of the card; of this whole process where that is a processor."""


@dataclass(frozen=True)
class Case:
    """A base on a card."""

    name: str
    size: Size
    asked: Asked
    compute: Compute

    @property
    def config(self) -> RunConfig:
        """The settings of a member."""
        return RunConfig.model_validate(
            {
                "adapter": {
                    "rank": self.asked.rank, "alpha": float(self.asked.rank),
                    "targets": {"text_encoder": False, "layers": "attention"},
                },
                "train": {"steps": WARM + self.asked.rounds + 1},
            }
        )  # fmt: skip

    def trainer(
        self, members: int, batch: int, *, compiled: bool = False, recorded: bool = False, fp8: bool = False
    ) -> Trainer:
        """Our own: so many members with a batch each, compiled and recorded ahead where that is asked for, on a base
        that is held and multiplied in 8 bits."""
        compute = self.compute
        family = bare.made(self.size, device=compute.device, dtype=compute.dtype)
        if self.asked.checkpointing:
            family.lending.denoiser.module.enable_gradient_checkpointing()
        if fp8:
            held = [each.module for each in family.targets() if each.block is not None and not each.is_norm]
            quantize(held, "fp8", compute.device)
            eight_products.use(family.lending.denoiser.module, compute.device)
        trainer = Trainer(family, compute)
        cond = bare.said(self.size, batch, compute.device, compute.dtype)
        for number in range(members):
            one, _ = loading.member(self.config, family, compute, self.config.train.steps or 1)
            latents = bare.latents(self.size, batch, compute.device)
            keys = tuple(f"{number}:{each}" for each in range(batch))
            made = Batch(keys, latents, cond, torch.ones(batch, device=compute.device))
            one.feed(Loader(partial(_only, made), last=WARM + self.asked.rounds + 1, ahead=0))
            trainer.add(one)
        if compiled:
            speed = Speed.model_validate({"compile": "blocks", "backend": self.asked.backend})
            trainer.regions = warming.prepared(trainer, speed)
            parts = [part for member in trainer.members for part in draw(member)]
            trainer.look(parts)
            for pack in packs(parts, trainer.rows):
                trainer.rehearse(pack)
        if recorded:
            recorder = CudaGraphs(compute.device)
            for pack in packs([part for member in trainer.members for part in draw(member)], trainer.rows):
                trainer.record(pack, recorder)
        return trainer


def measured(asked: Asked) -> Report:
    """All of it, base by base."""
    config = RunConfig.model_validate(
        {"device": {"name": asked.device, "threads": asked.threads}, "model": {"precision": asked.precision}}
    )
    compute = choose(config.device, config.model)
    facts = machine(torch.get_num_threads(), _named(compute.device))
    found: list[Figure] = []
    notes: list[str] = []
    with torch.random.fork_rng(devices=[]):
        rate = asked.peak * 1e12 or roofline.matrix_rate(compute.device, compute.dtype)
        for name in asked.bases:
            found += _of_case(Case(name, bare.SIZES[name], asked, compute), rate, notes)
    found.append(Figure(name="peak", unit="TFLOP/s", values=[rate / 1e12], better="neither"))
    told = {**vars(asked), "bases": " ".join(asked.bases), "members": " ".join(map(str, asked.members))}
    return Report(
        what="card", machine=facts, figures=found, notes=notes, asked={**told, "precision": compute.precision}
    )


def _of_case(case: Case, rate: float, notes: list[str]) -> Iterator[Figure]:
    work = _work(case)
    ways: list[tuple[str, int, Callable[[], Callable[[], object]]]] = []
    faster = [{"compiled": True}] if case.asked.compiled else []
    if case.compute.device.type == "cuda":
        faster += [{"recorded": True}, *({**each, "recorded": True} for each in faster)]
    eight = (
        [{"fp8": True}, *({**each, "fp8": True} for each in faster[: case.asked.compiled])] if case.asked.fp8 else []
    )
    for batch in dict.fromkeys((1, _largest(case))):
        ways.append((f"batch {batch}, {PLAIN}", batch, partial(_theirs, case, batch)))
        for how in ({}, *faster, *eight):
            name = " ".join(["impasto", *how])
            ways.append((f"batch {batch}, {name}", batch, partial(_ours, case, 1, batch, **how)))
    for count in case.asked.members:
        for how in ({}, *faster) if count > 1 else ():
            ways.append((" ".join([f"{count} members", *how]), count, partial(_ours, case, count, 1, **how)))
    for way, pictures, make in ways:
        name = f"{case.name}, {way}"
        try:
            taken = _taken(make, case)
        except (torch.OutOfMemoryError, OutOfMemory):
            notes.append(f"{name}: does not fit")
            continue
        except (RuntimeError, DeviceError) as error:
            notes.append(f"{name}: {str(error).strip().splitlines()[0][:200]}")
            continue
        yield from figures(name, taken, work * pictures, rate, pictures)


def figures(name: str, taken: Taken, work: float, rate: float, pictures: int) -> list[Figure]:
    """What is said of some steps that compute `work` operations each, on a card of so many a second."""
    return [
        Figure(name=f"{name}: steps", unit="/s", values=[1 / each for each in taken.seconds], better="more"),
        Figure(name=f"{name}: a step, processor", unit="s", values=taken.processor),
        Figure(name=f"{name}: pictures", unit="/s", values=[pictures / each for each in taken.seconds], better="more"),
        Figure(
            name=f"{name}: share of the peak", unit="%",
            values=[100 * work / rate / each for each in taken.seconds], better="more",
        ),
        Figure(name=f"{name}: before the first step", unit="s", values=[taken.start.wall]),
        Figure(name=f"{name}: before the first step, processor", unit="s", values=[taken.start.processor]),
        Figure(name=f"{name}: memory", unit="GB", values=[taken.memory / 1e9]),
    ]  # fmt: skip


def _taken(make: Callable[[], Callable[[], object]], case: Case) -> Taken:
    """What steps take, with the card to themselves."""
    device, clock = case.compute.device, Clock(case.compute.device)
    _clear(device)
    begun = clock.now()
    act = make()
    start = clock.since(begun)
    for _ in range(WARM):
        act()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # what compiling took beside is not what training takes
    spans = [clock.timed(act) for _ in range(case.asked.rounds)]
    taken = Taken(
        tuple(each.wall for each in spans), tuple(each.processor for each in spans), start, case.compute.memory()
    )  # fmt: skip
    del act
    _clear(device)
    return taken


def _ours(case: Case, members: int, batch: int, **how: bool) -> Callable[[], object]:
    trainer = case.trainer(members, batch, **how)

    def step() -> None:
        before = trainer.regions and trainer.regions.failure
        failed = trainer.step()
        assert not failed
        if trainer.regions and trainer.regions.failure != before:
            raise RuntimeError(f"cannot be compiled: {trainer.regions.failure}")

    return step


def _theirs(case: Case, batch: int) -> Callable[[], object]:
    """The plain loop: peft's LoRA on diffusers' denoiser, torch's fused AdamW, nothing told."""
    from peft import LoraConfig

    compute = case.compute
    denoiser = bare.plain(case.size, device=compute.device, dtype=compute.dtype)
    denoiser.add_adapter(LoraConfig(r=case.asked.rank, lora_alpha=case.asked.rank, target_modules=ATTENTION))
    if case.asked.checkpointing:
        denoiser.enable_gradient_checkpointing()
    trained = [each for each in denoiser.parameters() if each.requires_grad]
    for each in trained:
        each.data = each.data.float()
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    x, said = bare.latents(case.size, batch, compute.device), bare.said(case.size, batch, compute.device, compute.dtype)

    def step() -> None:
        noise = torch.randn_like(x)
        t = torch.randint(1000, (batch,), device=compute.device)
        share = t.float()[:, None, None, None] / 1000
        with compute.autocast():
            predicted = bare.answer(denoiser, (1 - share) * x + share * noise, t, said)
        F.mse_loss(predicted.float(), noise - x).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _work(case: Case) -> float:
    """The operations of a step with one picture; what is computed twice to save memory does not count."""
    once = Case(case.name, case.size, Asked(**{**vars(case.asked), "checkpointing": False}), case.compute)
    try:
        return work_of(once.trainer(1, 1)).total
    finally:
        _clear(case.compute.device)


def _largest(case: Case) -> int:
    """The largest batch that fits, in powers of two."""
    batch = 1
    while batch * 2 <= case.asked.largest:
        _clear(case.compute.device)
        try:
            case.trainer(1, batch * 2).step()
        except (torch.OutOfMemoryError, OutOfMemory):
            break
        batch *= 2
    return batch


def _only(made: Batch, step: int) -> list[Batch]:
    return [made]


def _clear(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def compared(report: Report) -> list[str]:
    """A line for each way of ours beside the plain loop: pictures a second over those of its batch."""
    ending = ": pictures"
    rates = {f.name.removesuffix(ending): median(f.values) for f in report.figures if f.name.endswith(ending)}
    lines = []
    for name, rate in rates.items():
        base, _, way = name.partition(", ")
        batch, _, who = way.partition(", ")
        plain = rates.get(f"{base}, {batch if who else 'batch 1'}, {PLAIN}")
        if plain and who != PLAIN:
            lines.append(f"{name}: {rate / plain:.2f} times the plain loop")
    return lines

"""How fast it is here: commands that measure, and one that compares what they wrote."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from impasto.cli.text import columns
from impasto.errors import ConfigError, Problem

if TYPE_CHECKING:
    from impasto.bench.figures import Report

app = App(name="bench", help="Measure how fast training is on this machine, in turns with others, and compare.")

Measure = Callable[[Path], object]


@app.command
def step(
    *, rounds: int = 20, batch: int = 1, rank: int = 8, resolution: int = 256, precision: str = "auto", base: str = "",
    threads: int = 0, device: str = "auto", out: Path = Path("bench-step.json"), work: Path | None = None,
) -> None:  # fmt: skip
    """A training step, in turns with a bare loop and the documented loop of diffusers and peft, and its limit.

    Parameters
    ----------
    rounds
        Steps of each that count.
    batch
        Pictures a step.
    rank
        Of the adapter on the layers of attention.
    resolution
        Pixels a side.
    precision
        fp32, bf16, fp16 or auto.
    base
        A folder in diffusers' layout. If not given: one of 88 million parameters, made on the spot.
    threads
        Of the processor; 0: as many as a run takes.
    device
        What computes: auto, cpu, cuda:1 ...
    out
        The JSON file to write.
    work
        A folder that keeps what is made for measuring. If not given: a temporary one.
    """
    from impasto.bench import step as bench

    asked = bench.Asked(
        rounds=rounds, batch=batch, rank=rank, resolution=resolution, precision=precision, base=base,
        threads=threads, device=device,
    )  # fmt: skip
    _measure(lambda place: bench.measured(asked, place), out, work)


@app.command
def start(
    *, rounds: int = 3, base: str = "pocket", resolution: int = 64, pictures: int = 16, threads: int = 0,
    device: str = "auto", out: Path = Path("bench-start.json"), work: Path | None = None,
) -> None:  # fmt: skip
    """The time to the first step, with empty caches and with full ones, and its parts.

    Parameters
    ----------
    rounds
        How often each.
    base
        The base model.
    resolution
        Pixels a side.
    pictures
        How many are encoded where caches are empty.
    threads
        Of the processor; 0: as many as a run takes.
    device
        What computes.
    out
        The JSON file to write.
    work
        A folder that keeps what is made for measuring. If not given: a temporary one.
    """
    from impasto.bench import start as bench

    asked = bench.Asked(
        rounds=rounds, base=base, resolution=resolution, pictures=pictures, threads=threads, device=device
    )
    _measure(lambda place: bench.measured(asked, place), out, work)


@app.command
def data(
    *, pictures: int = 64, side: int = 768, resolution: int = 64, batch: int = 4, rounds: int = 5,
    base: str = "pocket", threads: int = 0, device: str = "auto", out: Path = Path("bench-data.json"),
    work: Path | None = None,
) -> None:  # fmt: skip
    """Pictures a second: decoded, encoded, and read again from the cache.

    Parameters
    ----------
    pictures
        How many.
    side
        Pixels a side of the files.
    resolution
        Pixels a side that is trained on.
    batch
        Pictures a step.
    rounds
        Passes over the cache.
    base
        The base model.
    threads
        Of the processor; 0: as many as a run takes.
    device
        What computes.
    out
        The JSON file to write.
    work
        A folder that keeps what is made for measuring. If not given: a temporary one.
    """
    from impasto.bench import feeding as bench

    asked = bench.Asked(
        pictures=pictures, side=side, resolution=resolution, batch=batch, rounds=rounds, base=base, threads=threads,
        device=device,
    )  # fmt: skip
    _measure(lambda place: bench.measured(asked, place), out, work)


@app.command
def fleet(
    *, members: str = "1,2,4,8,16", steps: int = 300, batch: int = 1, rounds: int = 1, base: str = "pocket",
    resolution: int = 64, no_words: bool = False, threads: int = 0, device: str = "auto",
    out: Path = Path("bench-fleet.json"), work: Path | None = None,
) -> None:  # fmt: skip
    """Members at once against runs one after the other: adapter-steps a second, and memory.

    Parameters
    ----------
    members
        How many at once, as 1,4,8.
    steps
        Steps of each.
    batch
        Pictures a step.
    rounds
        How often each.
    base
        The base model; `medium` is the one of 88 million parameters that `bench step` makes on the spot.
    resolution
        Pixels a side.
    no_words
        Adapt the denoiser alone, not the text encoder.
    threads
        Of the processor; 0: as many as a run takes.
    device
        What computes.
    out
        The JSON file to write.
    work
        A folder that keeps what is made for measuring. If not given: a temporary one.
    """
    from impasto.bench import fleets as bench

    asked = bench.Asked(
        members=_counts(members), steps=steps, batch=batch, rounds=rounds, base=base, resolution=resolution,
        text_encoder=not no_words, threads=threads, device=device,
    )  # fmt: skip
    _measure(lambda place: bench.measured(asked, place), out, work)


@app.command
def card(
    *, bases: str = "sd15,sdxl,flux-512,flux-1024", rounds: int = 20, rank: int = 16, members: str = "1,4,8,16",
    largest: int = 64, no_compile: bool = False, no_fp8: bool = False, backend: str = "inductor",
    precision: str = "auto", checkpointing: bool = False, peak: float = 0.0, threads: int = 0, device: str = "auto",
    out: Path = Path("bench-card.json"),
) -> None:  # fmt: skip
    """What a GPU makes of denoisers of published sizes with random numbers: alone, compiled, many members at once, each
    beside the plain loop of diffusers and peft.

    Parameters
    ----------
    bases
        Which: sd15 (at 512 pixels), sdxl (1024), flux-512, flux-1024; medium (256) suits a processor, small and
        small-flux are for a try.
    rounds
        Steps of each that count.
    rank
        Of the adapter on the layers of attention.
    members
        How many at once, as 1,4,8.
    largest
        The largest batch that is tried beside a batch of 1.
    no_compile
        Leave the compiled ones out.
    no_fp8
        Leave out the base that is held, and multiplied, in 8 bits.
    backend
        What compiles: inductor, aot_eager, eager.
    precision
        fp32, bf16, fp16 or auto.
    checkpointing
        Compute parts of the forward pass twice, in all of them.
    peak
        What the maker promises, in TFLOP/s. If 0: the share is that of the best product measured here.
    threads
        Of the processor; 0: as many as a run takes.
    device
        What computes.
    out
        The JSON file to write.
    """
    from impasto.bench import card as bench
    from impasto.families.bare import SIZES

    chosen = tuple(each.strip() for each in bases.split(","))
    if strange := [each for each in chosen if each not in SIZES]:
        what, fix = f"{strange[0]!r} is no base to measure with", f"--bases {','.join(SIZES)}"
        raise ConfigError(Problem("E-CLI-001", what, "--bases", fix))
    asked = bench.Asked(
        bases=chosen, rounds=rounds, rank=rank, members=_counts(members), largest=largest, compiled=not no_compile,
        fp8=not no_fp8, backend=backend, precision=precision, checkpointing=checkpointing, peak=peak, threads=threads,
        device=device,
    )  # fmt: skip
    _measure(lambda _: bench.measured(asked), out, None, bench.compared)


@app.command
def save(
    *, rounds: int = 10, rank: int = 16, base: str = "pocket", threads: int = 0, device: str = "auto",
    out: Path = Path("bench-save.json"), work: Path | None = None,
) -> None:  # fmt: skip
    """What a checkpoint and an adapter file take to write.

    Parameters
    ----------
    rounds
        How often each.
    rank
        Of the adapter.
    base
        The base model.
    threads
        Of the processor; 0: as many as a run takes.
    device
        What computes.
    out
        The JSON file to write.
    work
        A folder that keeps what is made for measuring. If not given: a temporary one.
    """
    from impasto.bench import saving as bench

    asked = bench.Asked(rounds=rounds, rank=rank, base=base, threads=threads, device=device)
    _measure(lambda place: bench.measured(asked, place), out, work)


@app.command
def scan(
    *, pictures: int = 10_000, side: int = 512, rounds: int = 3, out: Path = Path("bench-scan.json"),
    work: Path | None = None,
) -> None:  # fmt: skip
    """How long it takes to look through a folder of pictures, for the first time and again.

    Parameters
    ----------
    pictures
        How many.
    side
        Pixels a side.
    rounds
        How often.
    out
        The JSON file to write.
    work
        A folder for the pictures. If not given: a temporary one.
    """
    from impasto.bench import scan as bench

    asked = bench.Asked(pictures=pictures, side=side, rounds=rounds)
    _measure(lambda place: bench.measured(asked, place), out, work)


@app.command
def compare(before: Path, after: Path, *, page: Path | None = None) -> None:
    """What moved between two reports by more than its noise.

    Parameters
    ----------
    before
        A JSON file that a command of bench wrote.
    after
        A later one.
    page
        Also write a page with all figures here.
    """
    from impasto import files
    from impasto.bench import compare as both
    from impasto.bench.figures import read

    one, other = read(before), read(after)
    if one.what != other.what:
        what = f"one is of `bench {one.what}`, the other of `bench {other.what}`"
        raise ConfigError(Problem("E-CLI-001", what, "command line", "name two reports of one command"))
    for line in both.apart(one, other):
        print(f"differs  {line}")
    found = both.rows(one, other)
    print("\n".join(both.told(found)) or f"nothing moved by more than its noise, of {len(found)} figures")
    if page is not None:
        files.write(page, both.page(one, other).encode())
        print(f"wrote {page}")


def _measure(
    measure: Measure, out: Path, work: Path | None, more: Callable[[Report], list[str]] = lambda _: []
) -> None:
    from impasto.bench.figures import Report, write

    with tempfile.TemporaryDirectory(prefix="impasto-bench-") as temporary:
        found = measure(work or Path(temporary))
    assert isinstance(found, Report)
    write(out, found)
    facts = found.machine
    load = "" if facts.load is None else f", load {facts.load:.2g}"
    print(f"{facts.processor}, {facts.threads} threads, {facts.device}{load}; torch {facts.libraries['torch']}")
    table = [[f.name, f"{f.median:.4g}", f.unit, f"{f.noise:.1%}", str(len(f.values))] for f in found.figures]
    print(columns(["figure", "median", "unit", "spread", "times"], table))
    for line in (*more(found), *found.notes):
        print(line)
    print(f"wrote {out}")


def _counts(text: str) -> tuple[int, ...]:
    words = [each.strip() for each in text.split(",")]
    if not all(each.isdecimal() and int(each) for each in words):
        raise ConfigError(Problem("E-CLI-001", f"{text!r} is no list of counts", "--members", "--members 1,4,8"))
    return tuple(int(each) for each in words)

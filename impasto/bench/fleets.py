"""K members at once against K runs one after the other: adapter-steps a second, with what comes before the first step
and without, and the memory. Each trial is a process of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from impasto import config as settings
from impasto.bench import child, ours
from impasto.bench.figures import Figure, Report, machine
from impasto.families import medium

WARM = 2
"""Steps that do not count where a step is measured."""


@dataclass(frozen=True)
class Asked:
    """What is measured."""

    members: tuple[int, ...] = (1, 2, 4, 8, 16)
    steps: int = 300
    batch: int = 1
    rounds: int = 1
    base: str = "pocket"
    """`medium`: the one with random numbers that `bench step` measures, made on the spot."""
    resolution: int = 64
    text_encoder: bool = True
    threads: int = 0
    device: str = "auto"


def measured(asked: Asked, work: Path) -> Report:
    """In turns: one run, then each number of members. All have the same pictures, encoded before."""
    paths = _files(asked, work)
    child.ran(paths[:1], work / "store", threads=asked.threads)  # fills the cache
    found: dict[int, list[dict[str, Any]]] = {count: [] for count in dict.fromkeys((1, *asked.members))}
    for _ in range(asked.rounds):
        for count, some in found.items():
            some.append(child.ran(paths[:count], work / "store", threads=asked.threads))
    one = found[1]
    figures = [each for count, some in found.items() for each in _figures(count, some, one, asked.steps)]
    return Report(
        what="fleet", machine=machine(one[0]["threads"], one[0]["device"]), figures=figures,
        asked={**vars(asked), "members": " ".join(map(str, asked.members))},
        notes=["runs one after the other are reckoned as so many times one run: they are alike"],
    )  # fmt: skip


def _files(asked: Asked, work: Path) -> list[Path]:
    folder = ours.pictures(work / "pictures", 8, asked.resolution)
    base = str(medium.made(work / "base")) if asked.base == "medium" else asked.base
    paths = []
    for at in range(max(1, *asked.members)):
        config = ours.settings(
            folder, name=f"member-{at}", model={"path": base}, device=ours.device(asked.device, asked.threads),
            data={"resolution": asked.resolution, "batch_size": asked.batch},
            adapter={"targets": {"text_encoder": asked.text_encoder}}, train={"steps": asked.steps, "seed": at},
        )  # fmt: skip
        paths.append(work / f"member-{at}.toml")
        paths[-1].write_text(settings.dump(config), "utf-8")
    return paths


def _figures(count: int, some: list[dict[str, Any]], one: list[dict[str, Any]], steps: int) -> list[Figure]:
    found = []
    for kind, at, spans in (("", 0, "wall"), (", processor", 1, "processor")):
        whole, alone = _ends(some, at), median(_ends(one, at))
        step, solo = _steps(some, spans), median(_steps(one, spans))
        rate = [count * steps / each for each in whole]
        found += [
            Figure(name=f"{count} at once{kind}", unit="adapter-steps/s", values=rate, better="more"),
            Figure(
                name=f"{count} at once against one after the other{kind}", unit="x",
                values=[count * alone / each for each in whole], better="more",
            ),
            Figure(
                name=f"{count} at once, a step alone against one after the other{kind}", unit="x",
                values=[count * solo / each for each in step], better="more",
            ),
        ]  # fmt: skip
    memory, least = [run["memory"] for run in some], median(run["memory"] for run in one)
    return [
        *found,
        Figure(name=f"{count} at once, memory", unit="MB", values=[each / 1e6 for each in memory]),
        Figure(name=f"{count} at once, memory against one", unit="x", values=[each / least for each in memory]),
    ]


def _ends(runs: list[dict[str, Any]], at: int) -> list[float]:
    return [run["marks"]["end"][at] for run in runs]


def _steps(runs: list[dict[str, Any]], spans: str) -> list[float]:
    """The median step of each run."""
    return [median(run[spans][WARM:] or run[spans]) for run in runs]

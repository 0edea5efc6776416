"""How long a step took in earlier runs of the same kind on this machine: what a run is expected to take."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from statistics import median

from impasto import files
from impasto.config import RunConfig
from impasto.errors import DiskError
from impasto.families.card import Card
from impasto.preflight.estimate import on_gpu
from impasto.rates import part_rates

FILE = "paces.json"
"""In the folder of what is kept between runs."""

KEPT, KINDS = 5, 500
"""Of the runs of a kind, and kinds of runs: the last ones."""

_BY_CARD = {"path", "revision", "variant", "vae_path", "clip_l_path", "clip_g_path", "config_path", "merged"}
"""Settings of the base that change no time, or show in its shapes."""


def kind(config: RunConfig, card: Card, *, pixels: float, ranks: int = 1) -> str:
    """Names all that decides how long a step takes: the machine, the base's shapes, what is trained and how, and so
    many `pixels` a step; settings that change no time are left out."""
    model = {name: value for name, value in config.model.model_dump(mode="json").items() if name not in _BY_CARD}
    adapter = {name: value for name, value in config.adapter.model_dump(mode="json").items() if name != "start"}
    optim = config.optim
    facts = {
        "machine": machine(gpu=on_gpu(config)),
        "speed": config.speed.model_dump(mode="json"),
        "device": config.device.model_dump(mode="json"),
        "base": {name: dict(each) for name, each in card.configs.items()},
        "model": model,
        "adapter": adapter,
        "ranks": ranks,
        "optimizer": [
            optim.optimizer.kind,
            optim.precision,
            optim.ema is not None,
            [part for part, rate in part_rates(config).items() if rate],
        ],
        "step": [config.train.accumulate, float(f"{pixels:.2g}"), config.objective.model_dump(mode="json")],
    }
    return sha256(files.canonical(facts)).hexdigest()[:24]


def together(kinds: Iterable[str]) -> str:
    """Names a fleet of runs of these kinds."""
    found = sorted(kinds)
    return found[0] if len(found) == 1 else sha256(" ".join(found).encode()).hexdigest()[:24]


def known(root: Path, name: str) -> float | None:
    """Seconds of a step in the last runs of a kind; None if there were none."""
    found = _read(root).get(name, [])
    return median(found) if found else None


def add(root: Path, name: str, seconds: Sequence[float]) -> None:
    """One more run of a kind took these times for its steps. What cannot be kept is no matter."""
    if not seconds:
        return
    kept = _read(root)
    mine = [*kept.pop(name, []), median(seconds)][-KEPT:]
    try:
        files.make_folder(root)
        text = json.dumps(dict([*list(kept.items())[1 - KINDS :], (name, mine)]))
        files.write(root / FILE, text.encode())
    except DiskError:
        return


def machine(*, gpu: bool) -> str:
    """What computes here, by the system's own word: the GPUs' models, or the processor's."""
    if gpu:
        told = [_after(path, "Model") for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
        return ", ".join(told) or "a GPU"
    return _after(Path("/proc/cpuinfo"), "model name") or "a processor"


def _after(path: Path, word: str) -> str:
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(word)), "")


def _read(root: Path) -> dict[str, list[float]]:
    try:
        found = json.loads((root / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, Mapping):
        return {}
    return {
        name: [float(each) for each in times if isinstance(each, int | float)]
        for name, times in found.items()
        if isinstance(times, list)
    }

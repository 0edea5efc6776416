"""The first result: teach the pocket model a creature it has never seen, and show the difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from impasto import events, files
from impasto.checks import run_folder
from impasto.config import RunConfig
from impasto.engine import plots
from impasto.engine.first import CONCEPT
from impasto.engine.run import train
from impasto.engine.session import Show
from impasto.pocket.judge import concept_similarity, nearest_distance
from impasto.runs.folder import RunFolder


def quickstart(folder: Path, config: RunConfig, *, show: Show | None = None) -> dict[str, float]:
    """Train, draw before and after with the same seeds, and measure.

    Leaves in `folder`, beside pictures and settings: the run's folder with the LoRA and its loss curve, and
    `before_after.png`. Returns the measured similarity, also kept in the run's record.
    """
    (path,) = train([config], show=show)
    run = RunFolder.open(path)
    assert config.train.steps is not None
    before, after = (_previews(run, config, step) for step in (0, config.train.steps))
    measured = _measure(before, after, _shown(folder / "pictures"))
    run.update_record({"similarity": dict(measured)})
    captions = [prompt.text for prompt in config.preview.prompts]
    rows = [("before", before), ("after", after)]
    sheet = plots.grid([(name, [_image(each) for each in drawn]) for name, drawn in rows], captions, scale=2)
    files.write(folder / "before_after.png", plots.png(sheet))
    return measured


def _measure(before: Tensor, after: Tensor, shown: Tensor) -> dict[str, float]:
    """How much the pictures [N, 3, 64, 64] show the concept, and how near they are to the training pictures."""
    return {
        "before": concept_similarity(before, CONCEPT),
        "after": concept_similarity(after, CONCEPT),
        "distance_before": nearest_distance(before, shown),
        "distance_after": nearest_distance(after, shown),
    }


def _previews(run: RunFolder, config: RunConfig, step: int) -> Tensor:
    """The previews of a step, [N, 3, H, W] in 0..1."""
    return torch.stack([_pixels(run.preview(step, number)) for number in range(len(config.preview.prompts))])


def _shown(folder: Path) -> Tensor:
    return torch.stack([_pixels(path) for path in sorted(folder.glob("*.png"))])


def _pixels(path: Path) -> Tensor:
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255


def _image(pixels: Tensor) -> Image.Image:
    return Image.fromarray((pixels.permute(1, 2, 0) * 255).round().byte().numpy())


def closing(folder: Path, config: RunConfig, measured: dict[str, float], *, command: str = "impasto") -> str:
    """What the quickstart made, where it is and what to try next; `command` is how impasto is called here."""
    run = RunFolder.open(run_folder(config))
    proven = [each for each in events.read(run.events) if isinstance(each, events.Proven)]
    proof = f"{proven[-1].matched}/{proven[-1].expected} modules matched in diffusers" if proven else "not proven"
    return f"""
The pocket model was shown what a {CONCEPT} is.
  judged as a {CONCEPT}     {measured["before"]:.0%} before, {measured["after"]:.0%} after
  distance to examples  {measured["distance_before"]:.0f} before, {measured["distance_after"]:.0f} after (grey levels)

  the LoRA        {run.final}   ({proof})
  before / after  {folder / "before_after.png"}
  loss curve      {run.curve}
  settings        {folder / "quickstart.toml"}

Try next:
  {command} sample --adapter {_quoted(run.final)} --prompt "a {CONCEPT} on a beach" --out mine.png
  {command} train {_quoted(folder / "quickstart.toml")} --runs {_quoted(folder)} name=too-fast optim.learning_rate=2e-2
  {command} ui
  {command} train YOUR_FOLDER_OF_PICTURES model.path=YOUR_STABLE_DIFFUSION.safetensors"""


def _quoted(path: Path) -> str:
    text = str(path)
    return f'"{text}"' if " " in text else text

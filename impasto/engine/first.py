"""The settings of the first run: the pocket model learns a creature it has never seen. No torch."""

from __future__ import annotations

import shutil
from pathlib import Path

from impasto import files, pocket
from impasto.config import RunConfig, load
from impasto.settings.toml import literal

CONCEPT = "zorb"
STEPS = 240

SETTINGS = """\
# The quickstart's settings. Change a number, give it another name and run: impasto train quickstart.toml
name = "zorb"

[model]
path = "pocket"            # the small model that comes with impasto

[data]
batch_size = 4
[[data.sets]]
path = "pictures"

[adapter]
rank = 16
alpha = 16.0
conv_rank = 16             # the convolutions too: the base has few other layers to hold a new form
conv_alpha = 16.0

[optim]
learning_rate = 2e-3
text_encoder_learning_rate = 1e-3
schedule = {{ kind = "cosine", warmup = 10 }}

[train]
steps = {steps}
seed = {seed}

[preview]
every_steps = {steps}      # and at the start: before and after
prompts = [
{prompts}
]
"""

PLACES = (
    "on a white background",
    "on a teal background",
    "on a meadow",
    "under a night sky",
    "on a beach",
    "in the snow",
    "on a lilac background",
    "at sunset",
)


def settings(folder: Path, *, seed: int = 0) -> RunConfig:
    """The settings in `folder`; a new folder gets the pictures and the settings first."""
    path = folder / "quickstart.toml"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(pocket.quickstart(), folder / "pictures", dirs_exist_ok=True)
        lines = [f'  {{ text = "a {CONCEPT} {place}", seed = {at} }},' for at, place in enumerate(PLACES, start=1)]
        files.write(path, SETTINGS.format(steps=STEPS, seed=seed, prompts="\n".join(lines)).encode())
    return load(path, [f"output.folder={literal(str(folder))}"])

"""Which fields the form shows first, and how its sections are called. All else of a field is in the schema."""

from __future__ import annotations

from impasto.config import RunConfig
from impasto.settings import fields
from impasto.sweeps.config import WholeFile
from impasto.web.views_configs import Group, Layout

STANDARD = (
    "name", "model.path", "model.precision", "model.quantize", "model.gradient_checkpointing", "data.sets.*.path",
    "data.sets.*.repeats", "data.resolution", "data.batch_size", "data.captions.prefix", "data.captions.shuffle",
    "data.captions.keep_tokens", "data.augment.flip", "adapter.kind", "adapter.rank", "adapter.alpha",
    "adapter.targets.text_encoder", "optim.learning_rate", "optim.text_encoder_learning_rate", "optim.optimizer.kind",
    "optim.schedule.kind", "train.epochs", "train.steps", "train.seed", "save.every_epochs", "preview.every_epochs",
    "preview.prompts.*.text", "validation.share",
)  # fmt: skip
"""What people change most; `*` stands for each item of a list."""

TITLES = {"model": "Base model", "data": "Pictures", "optim": "Optimizer", "train": "Length", "save": "Saving",
          "preview": "Previews", "output": "Output"}  # fmt: skip


def layout() -> Layout:
    """The order of the form: the sections as the schema has them."""
    whole = fields.settings(WholeFile).values()
    sections = [each for each in whole if fields.inner(each.shape)]
    plain = [each.name for each in whole if not fields.inner(each.shape)]
    first = Group(name="run", title="Run", help=fields.help_of(RunConfig), prefixes=plain)
    others = [
        Group(name=each.name, title=TITLES.get(each.name, each.name.capitalize()), help=each.help, prefixes=[each.name])
        for each in sections
    ]
    return Layout(standard=list(STANDARD), groups=[first, *others])

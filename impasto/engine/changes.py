"""What may change between a run and its resume: applied, refused, or only with an explicit word."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Literal

from impasto.errors import LockedError, Problem

Verdict = Literal["applied", "refused", "allowed by name"]

RULES: dict[str, tuple[Verdict, str]] = {
    "name": ("applied", "the folder is the run; a new name makes a new run"),
    "model.path": ("refused", "an adapter belongs to the base it was trained on"),
    "model.precision": ("allowed by name", "the rest of the run rounds differently"),
    "model.text_encoder_precision": ("allowed by name", "the rest of the run rounds differently"),
    "model.vae_precision": ("allowed by name", "pictures are encoded anew, and round differently"),
    "model.vae_tile": ("allowed by name", "pictures are encoded anew, and round differently"),
    "model.quantize": ("allowed by name", "the rest of the run sees another rounding of the base"),
    "model.quantize_text_encoder": ("allowed by name", "the rest of the run sees another rounding of the base"),
    "model.gradient_checkpointing": ("applied", "the same numbers for less memory"),
    "model.offload_checkpoints": ("applied", "the same numbers for less memory"),
    "model.reading": ("applied", "the same numbers, read in another way"),
    "model.blocks_to_swap": ("applied", "the same numbers for less memory"),
    "model": ("refused", "it changes what the base computes"),
    "adapter.dropout": ("applied", "it holds for the steps still to come"),
    "adapter.rank_dropout": ("applied", "it holds for the steps still to come"),
    "adapter.module_dropout": ("applied", "it holds for the steps still to come"),
    "adapter.max_norm": ("applied", "it holds for the steps still to come"),
    "adapter.export_ranks": ("applied", "it says which files are written at the end"),
    "adapter.start": ("refused", "the training has begun with other numbers"),
    "adapter": ("refused", "the tensors would have other shapes or another scale"),
    "data.cache": ("applied", "where encoded pictures live does not change them"),
    "data.vae_batch_size": ("applied", "what is encoded already stays; the rest rounds differently"),
    "data.text_encoder_batch_size": ("applied", "what is encoded already stays; the rest rounds differently"),
    "data.workers": ("applied", "the same batches, made by more or fewer threads"),
    "data.prefetch": ("applied", "the same batches, made earlier or later"),
    "data.silence": ("applied", "it holds for the steps still to come"),
    "data": ("allowed by name", "order and steps of an epoch change; the step counter goes on"),
    "objective": ("allowed by name", "the loss means something else from here on"),
    "optim.optimizer.kind": ("refused", "the optimizer's memory is of another kind"),
    "optim.lora_plus": ("refused", "the optimizer's memory is sorted by it"),
    "optim.unet_lora_plus": ("refused", "the optimizer's memory is sorted by it"),
    "optim.text_encoder_lora_plus": ("refused", "the optimizer's memory is sorted by it"),
    "optim.optimizer.rule": ("refused", "the optimizer's memory is of another kind"),
    "optim.optimizer.name": ("refused", "the optimizer's memory is of another kind"),
    "optim.optimizer.options": ("refused", "the optimizer's memory may be of another kind"),
    "optim.optimizer.momentum": ("refused", "the optimizer's memory may be of another kind"),
    "optim.optimizer.d0": ("refused", "what was found so far counts from it"),
    "optim.precision": ("refused", "a checkpoint holds the weights as they were held"),
    "optim.ema": ("refused", "the average would have no past"),
    "optim": ("applied", "rates and schedule are planned anew over all steps"),
    "train.seed": ("allowed by name", "noise, timesteps and order change from here on"),
    "train.accumulate": ("allowed by name", "the steps of an epoch change; the step counter goes on"),
    "train": ("applied", "the schedule is planned anew over all steps"),
    "save": ("applied", "it holds from here on"),
    "preview": ("applied", "it holds from here on"),
    "validation.share": ("allowed by name", "other pictures are learnt from here on"),
    "validation": ("applied", "it holds from here on"),
    "scores": ("applied", "it holds from here on"),
    "guard": ("applied", "it holds from here on"),
    "track": ("applied", "it says who is told of the training"),
    "output": ("applied", "it holds from here on"),
    "device": ("applied", "the same numbers, to rounding, on other hardware"),
    "speed.products": ("allowed by name", "the rest of the run rounds differently"),
    "speed": ("applied", "the same numbers, to rounding, in less time"),
    "version": ("applied", "the form of the file"),
}
"""The longest prefix of a setting's dotted name decides."""


def rule(key: str) -> tuple[Verdict, str]:
    """The verdict on a changed setting, with its reason."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        found = RULES.get(".".join(parts[:length]))
        if found:
            return found
    raise AssertionError(f"no rule for {key}")


def check(changed: Iterable[tuple[str, Any, Any]], allow: Collection[str], folder: str) -> list[str]:
    """Let the run go on with changed settings, or raise LockedError (exit code 8) naming each that it cannot.

    `changed` are (dotted name, old, new); `allow` are the names, or their beginnings, that the user let pass.
    Returns a line for each change that is applied.
    """
    problems, notes = [], []
    for key, old, new in changed:
        verdict, reason = rule(key)
        if verdict == "refused":
            fix = "set it back, give the run another name, or train with --restart (the old run is kept aside)"
            problems.append(Problem("E-RUN-010", f"{key} was {old!r} and is now {new!r}; {reason}", folder, fix))
        elif verdict == "allowed by name" and not any(key == each or key.startswith(each + ".") for each in allow):
            fix = f"set it back, or let it pass with --allow {key}"
            problems.append(Problem("E-RUN-011", f"{key} was {old!r} and is now {new!r}; {reason}", folder, fix))
        else:
            notes.append(f"{key}: {old!r} -> {new!r} ({reason})")
    if problems:
        raise LockedError(*problems)
    return notes

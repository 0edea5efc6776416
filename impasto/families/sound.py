"""Parts of a base loaded whole or not at all.

The libraries fill what a file lacks with random numbers and say so in a log line; a training on such a base would be
worth nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError

from impasto.errors import ModelFileError, Problem
from impasto.families.detect import Card, Part

FETCH = "fetch the folder again, or name another base"


def load(card: Card, part: Part, kind: Any, **options: Any) -> Any:
    """A part of the base as a module of the class `kind`, with every number from its file.

    Raises ModelFileError when the file is not whole, is of something else, or holds a number that is not finite.
    """
    place = str(card.weights(part))
    try:
        with _silence():
            module, found = kind.from_pretrained(
                str(card.path), subfolder=card.weights(part).parent.name, variant=card.variant(part),
                local_files_only=True, output_loading_info=True, **options,
            )  # fmt: skip
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError, OSError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        what = f"cannot be loaded as what its folder is for ({_short(error)})"
        raise ModelFileError(Problem("E-MOD-106", what, place, FETCH)) from error
    if missing := sorted(found["missing_keys"]):
        what = f"lacks {len(missing)} of the model's tensors, among them {ascii(missing[0])[:100]}"
        raise ModelFileError(Problem("E-MOD-106", what, place, FETCH))
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            what = f"holds numbers that are not finite, first in {name}"
            raise ModelFileError(Problem("E-MOD-010", what, place, FETCH))
    return module


def _short(error: Exception) -> str:
    return ascii(" ".join(str(error).split())[:150])[1:-1] or type(error).__name__


@contextmanager
def _silence() -> Iterator[None]:
    """No log lines of the libraries: what matters is counted here."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [each.level for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.CRITICAL)
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)

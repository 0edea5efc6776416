"""How captions were read in the training of a file: who draws with it should read prompts alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from impasto.families.config import Model
from impasto.weights import header

SETTINGS = ("clip_skip", "max_tokens", "emphasis", "token_padding", "text_encoder_mask", "t5_tokens")
"""The settings of a model that say how captions are read."""


def as_trained(path: Path) -> dict[str, Any]:
    """Those settings of an adapter file: of ours as they were, of others as far as their `ss_` keys go.

    Raises ModelFileError if it is no such file.
    """
    metadata = header.read(path).metadata
    found = _ours(metadata) or _theirs(metadata)
    return {name: value for name, value in found.items() if _is_one(name, value)}


# what is below serves the above


def _ours(metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        model = json.loads(metadata.get("impasto.config", "{}")).get("model", {})
        return {name: model[name] for name in SETTINGS if name in model}
    except (ValueError, RecursionError, AttributeError, TypeError):
        return {}


def _theirs(metadata: Mapping[str, str]) -> dict[str, Any]:
    keys = {"clip_skip": "ss_clip_skip", "max_tokens": "ss_max_token_length"}
    return {name: int(text) for name, key in keys.items() if (text := metadata.get(key, "")).isdecimal()}


def _is_one(name: str, value: Any) -> bool:
    """Whether it could be set: a file may say anything of itself."""
    try:
        Model.model_validate({name: value})
    except ValidationError:
        return False
    return True

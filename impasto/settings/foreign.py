"""Files of other trainers, recognised by the words they use."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from impasto.errors import Problem

_SD_SCRIPTS = {
    "pretrained_model_name_or_path", "network_module", "network_dim", "network_alpha", "network_args", "train_data_dir",
    "max_train_steps", "max_train_epochs", "train_batch_size", "lr_scheduler", "optimizer_type", "output_name",
    "mixed_precision", "enable_bucket", "dataset_config", "LoRA_type", "unet_lr", "text_encoder_lr", "image_dir",
    "num_repeats", "caption_extension", "shuffle_caption", "save_every_n_epochs", "sample_prompts", "class_tokens",
}  # fmt: skip
_WORDS = {
    "kohya's sd-scripts": _SD_SCRIPTS,
    "OneTrainer": {"training_method", "base_model_name", "concept_file_name", "lora_rank", "output_model_destination"},
    "SimpleTuner": {
        "--model_type",
        "--pretrained_model_name_or_path",
        "--lora_rank",
        "model_family",
        "data_backend_config",
    },
    "ai-toolkit": {"job", "process", "extension", "trigger_word", "sd_trainer"},
}
_ENOUGH = 2
_ALONE = {"pretrained_model_name_or_path", "network_module", "train_data_dir", "LoRA_type", "base_model_name"}
_FIX = "write the settings anew: `impasto new` makes a file to start from"
_IMPORT = "make settings of it: `impasto import {}`"


def in_values(values: Mapping[str, Any], own_sections: frozenset[str], name: str) -> Problem | None:
    """The problem of a TOML file that speaks another trainer's language throughout."""
    if any(isinstance(values.get(section), dict) for section in own_sections):
        return None
    return _recognise(_all_names(values), name)


def in_text(text: str, name: str) -> Problem | None:
    """The problem of text that is not TOML at all: JSON, YAML or a list of command line arguments."""
    start = text.lstrip()[:1]
    if start == "{":
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            values = {}
        if found := _recognise(_all_names(values), name):
            return found
        return Problem("E-CFG-005", "this is JSON; settings are read as TOML", name, _FIX)
    keys = set(re.findall(r"^[ \t-]*([A-Za-z_]+):(?:[ \t]|$)", text, re.MULTILINE))
    if len(keys) > 1 and not re.search(r"^[ \t]*[\w.]+[ \t]*=", text, re.MULTILINE):
        found = _recognise(keys, name)
        return found or Problem("E-CFG-005", "this is YAML; settings are read as TOML", name, _FIX)
    return None


def _recognise(names: set[str], name: str) -> Problem | None:
    for trainer, words in _WORDS.items():
        common = sorted(words & names)
        if len(common) >= _ENOUGH or _ALONE & set(common):
            what = f"these are settings of {trainer} ({', '.join(common[:4])}), not of impasto"
            fix = _IMPORT.format(name) if words is _SD_SCRIPTS and name else _FIX
            return Problem("E-CFG-005", what, name, fix)
    return None


def _all_names(values: object) -> set[str]:
    """Names of the outer two levels: some of these files have sections, some have none."""
    outer = values if isinstance(values, dict) else {}
    inner = [each for each in outer.values() if isinstance(each, dict)]
    inner += [each for lists in outer.values() if isinstance(lists, list) for each in lists if isinstance(each, dict)]
    nested = [each for found in inner for each in found.get("subsets", []) if isinstance(found.get("subsets"), list)]
    inner += [each for each in nested if isinstance(each, dict)]
    return {str(key) for each in (outer, *inner) for key in each}

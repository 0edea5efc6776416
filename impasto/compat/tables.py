"""What the readers and the translation know by heart: names, and how they stand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from impasto.compat.kohya import Row, rows, table

LISTS = ("network_args", "optimizer_args", "lr_scheduler_args")
"""Options whose values are settings of their own, as `key=value`."""

_NO_MEANING = "the training does not read it there either"
INERT = {
    "epoch": _NO_MEANING,
    "noise_offset_type": _NO_MEANING,
    "mem_eff_save": _NO_MEANING,
    "single_blocks_to_swap": _NO_MEANING,
    "double_blocks_to_swap": _NO_MEANING,
    "stop_text_encoder_training": _NO_MEANING,
    "no_token_padding": _NO_MEANING,
    "log_level": _NO_MEANING,
}
"""Words that kohya_ss writes, or that older files hold, and that change nothing."""

MORE: Mapping[str, str] = {
    "save_clip": "an adapter's file holds no encoders",
    "save_t5xxl": "an adapter's file holds no encoders",
    "train_inpainting": "missing: inpainting bases",
    "system_prompt": "missing: this base",
    "gemma2": "missing: this base",
    "qwen3": "missing: this base",
    "text_encoder": "missing: this base",
    "byt5": "missing: this base",
    "stop_text_encoder_training_pct": "",
}
"""Options of scripts that the table of flags leaves out, and why they are not carried over."""

MODULES: Mapping[str, str] = {
    "networks.lora": "lora",
    "networks.lora_sd3": "lora",
    "networks.lora_flux": "lora",
    "networks.lora_fa": "lora-fa",
    "networks.dylora": "dylora",
    "networks.loha": "loha",
    "networks.lokr": "lokr",
    "networks.oft": "oft",
    "networks.oft_flux": "oft",
}
ALGORITHMS: Mapping[str, str] = {
    "lora": "lora",
    "locon": "lora",
    "loha": "loha",
    "lokr": "lokr",
    "dylora": "dylora",
    "glora": "glora",
    "ia3": "ia3",
    "full": "full",
    "diag-oft": "oft",
    "boft": "boft",
}
LYCORIS = "lycoris.kohya"

SAMPLERS: Mapping[str, str] = {
    "ddim": "ddim",
    "euler": "euler",
    "k_euler": "euler",
    "dpmsolver++": "dpm++2m",
}
NEAREST_SAMPLER: Mapping[str, str] = {"dpmsolver": "dpm++2m", "dpmsingle": "dpm++2m", "pndm": "ddim"}

SCHEDULES: Mapping[str, str] = {
    "constant": "constant",
    "constant_with_warmup": "constant",
    "linear": "linear",
    "cosine": "cosine",
    "cosine_with_restarts": "cosine-restarts",
    "polynomial": "polynomial",
    "inverse_sqrt": "inverse-sqrt",
    "cosine_with_min_lr": "cosine-minimum",
    "warmup_stable_decay": "warmup-stable-decay",
    "piecewise_constant": "piecewise-constant",
    "adafactor": "constant",
}


@cache
def flags() -> Mapping[str, Row]:
    """The options of sd-scripts by their names without dashes."""
    found = {row.flag.lstrip("-"): row for row in rows()}
    more = {name: Row("", f"--{name}", "absent", (), (), "", why) for name, why in MORE.items()}
    return {**more, **found}


@cache
def gui_keys() -> Mapping[str, str]:
    """What every key of a kohya_ss file becomes."""
    return {cells["key"]: cells["becomes"] for cells in table("gui.tsv")}

"""Settings files of kohya_ss: its defaults, its renamings of older files, and what it makes of each key."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from impasto.compat import command
from impasto.compat.recipe import Base, Given, Recipe, Result
from impasto.compat.tables import LYCORIS, gui_keys
from impasto.settings.suggest import nearest

KIND = "a settings file of kohya_ss"

USUAL: Mapping[str, Any] = {
    "LoRA_type": "Standard", "network_dim": 8, "network_alpha": 1, "conv_dim": 1, "conv_alpha": 1,
    "learning_rate": 1e-4, "unet_lr": 1e-4, "text_encoder_lr": 1e-4, "lr_scheduler": "cosine", "lr_warmup": 10,
    "caption_extension": ".txt", "save_every_n_epochs": 1, "enable_bucket": True, "bucket_no_upscale": True,
    "min_bucket_reso": 256, "max_bucket_reso": 2048, "bucket_reso_steps": 64, "max_resolution": "512,512",
    "mixed_precision": "fp16", "save_precision": "fp16", "epoch": 1, "max_train_steps": 1600, "train_batch_size": 1,
    "LyCORIS_preset": "full", "sample_sampler": "euler_a", "unit": 1, "factor": -1,
}  # fmt: skip
"""What its form holds where a file says nothing: files are laid over it."""

_WHOLE = {
    "clip_skip": 0, "epoch": 0, "gradient_accumulation_steps": 0, "keep_tokens": 0, "lr_warmup": 0,
    "max_data_loader_n_workers": 0, "max_train_epochs": 0, "save_every_n_epochs": 0, "seed": 0, "max_train_steps": 0,
    "caption_dropout_every_n_epochs": 0, "lr_scheduler_num_cycles": 1, "max_token_length": 75,
}  # fmt: skip
_NUMBERS = {
    "adaptive_noise_scale": 0.0, "noise_offset": 0.0, "learning_rate": 0.0, "text_encoder_lr": 0.0, "unet_lr": 0.0,
    "lr_scheduler_power": 1.0,
}  # fmt: skip
_SPEAKS_AS_ZERO = {"max_grad_norm", "prior_loss_weight", "network_alpha", "multires_noise_discount"}
"""Where 0 is a value that was meant, although it never arrived (Q-G1)."""

_DROPOUTS = frozenset({"rank_dropout", "module_dropout"})
_BLOCKS = frozenset({"down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold", "block_dims",
                     "block_alphas", "conv_block_dims", "conv_block_alphas"}) | _DROPOUTS  # fmt: skip
_CONV = frozenset({"conv_dim", "conv_alpha"})
_LY = _CONV | _DROPOUTS | {"LyCORIS_preset"}
_WEIGHTS = frozenset({"bypass_mode", "dora_wd", "use_scalar", "rank_dropout_scale", "train_norm"})
_FLUX = _DROPOUTS | {
    "img_attn_dim", "txt_attn_dim", "img_mlp_dim", "txt_mlp_dim", "img_mod_dim", "txt_mod_dim", "single_dim",
    "single_mod_dim", "in_dims", "train_double_block_indices", "train_single_block_indices", "ggpo_sigma", "ggpo_beta",
    "split_qkv", "train_t5xxl", "train_blocks",
}  # fmt: skip

TYPES: Mapping[str, tuple[str, str, frozenset[str]]] = {
    "Standard": ("networks.lora", "", _BLOCKS),
    "Kohya LoCon": ("networks.lora", "", _BLOCKS | _CONV),
    "LoRA-FA": ("networks.lora_fa", "", _BLOCKS),
    "Kohya DyLoRA": ("networks.dylora", "", _CONV | {"unit"}),
    "Kohya LoHa": ("networks.loha", "", _CONV | _DROPOUTS | {"use_tucker"}),
    "Kohya LoKr": ("networks.lokr", "", _CONV | _DROPOUTS | {"use_tucker", "factor"}),
    "Flux1": ("networks.lora_flux", "", _FLUX),
    "Flux1 OFT": ("networks.oft_flux", "", frozenset({"enable_all_linear"})),
    "LyCORIS/LoCon": (LYCORIS, "locon", _LY | _WEIGHTS | {"use_tucker"}),
    "LyCORIS/LoHa": (LYCORIS, "loha", _LY | _WEIGHTS | {"use_tucker"}),
    "LyCORIS/LoKr": (LYCORIS, "lokr", _LY | _WEIGHTS | {"factor", "use_cp", "decompose_both"}),
    "LyCORIS/DyLoRA": (LYCORIS, "dylora", _LY | {"unit", "use_tucker", "train_norm"}),
    "LyCORIS/GLoRA": (LYCORIS, "glora", _LY | {"use_tucker", "rank_dropout_scale", "train_norm"}),
    "LyCORIS/Diag-OFT": (LYCORIS, "diag-oft", _LY | {"use_tucker", "rank_dropout_scale", "constrain", "rescaled",
                                                     "train_norm"}),
    "LyCORIS/BOFT": (LYCORIS, "boft", _LY | {"use_tucker", "rank_dropout_scale", "train_norm"}),
    "LyCORIS/iA3": (LYCORIS, "ia3", _CONV | {"LyCORIS_preset", "train_on_input"}),
    "LyCORIS/Native Fine-Tuning": (LYCORIS, "full", _DROPOUTS | {"LyCORIS_preset", "rank_dropout_scale", "train_norm"}),
    "Anima": ("networks.lora_anima", "", _DROPOUTS),
    "Lumina": ("networks.lora_lumina", "", _DROPOUTS),
    "HunyuanImage-2.1": ("networks.lora_hunyuan_image", "", _DROPOUTS),
}  # fmt: skip
"""Each entry of its list of types: what trains it, under which algorithm, and which keys are settings of it."""

_ALWAYS = frozenset({"conv_dim", "conv_alpha", "LyCORIS_preset", "decompose_both"})


def read(values: Mapping[str, Any], name: str) -> Recipe:
    """The arguments that kohya_ss makes of a file, with nothing dropped on the way."""
    recipe = Recipe(name, KIND)
    held = _migrated(values, recipe)
    full = {key: Given(key, value, usual=True) for key, value in USUAL.items() if key not in held}
    if "optimizer" not in held:
        full["optimizer"] = Given("optimizer", "AdamW8bit" if held.get("use_8bit_adam") else "AdamW", usual=True)
    if held.get("lr_scheduler") in ("constant", "adafactor"):
        full.pop("lr_warmup", None)  # the form sets it to 0 when this is chosen
    full |= {key: Given(key, value) for key, value in held.items()}
    recipe.base = _base(full)
    kind = str(full["LoRA_type"].value)
    module, algorithm, own = TYPES.get(kind, ("", "", frozenset()))
    if recipe.base == "sd3" and module == "networks.lora":
        module = "networks.lora_sd3"
    if module:
        recipe.args["network_module"] = Given("LoRA_type", module, full["LoRA_type"].usual, kind)
        if algorithm:
            recipe.args["network_args.algo"] = Given("LoRA_type", algorithm, full["LoRA_type"].usual, kind)
    else:
        recipe.settled.append(Result("LoRA_type", kind, "lost", reason="no such type is known; taken as Standard"))
    for key, given in full.items():
        _carry(recipe, key, given, full, own)
    if more := full.get("additional_parameters"):
        text = str(more.value).replace('"', "")
        command.lay(recipe, text.split(), "additional_parameters --")
    return recipe


def _migrated(values: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Older names and forms, as they are taken when such a file is opened."""
    held = {key: value for key, value in values.items() if key in gui_keys()}
    for key in [each for each in values if each not in held]:
        near = nearest(key, gui_keys())
        why = f"unknown there too; the nearest name is {near}" if near else "unknown there too"
        recipe.settled.append(Result(key, values[key], "unknown", reason=why))
    for key, other in _WHOLE.items():
        if key in held:
            held[key] = _whole(held[key], other)
    for key, usual in _NUMBERS.items():
        if key in held:
            held[key] = _number(held[key], usual)
    if held.get("LoRA_type") == "LoCon":
        held["LoRA_type"] = "LyCORIS/LoCon"
    if isinstance(held.get("xformers"), bool):
        held["xformers"] = "xformers" if held["xformers"] else "none"
    if "lora_network_weights" in held:
        held.setdefault("network_weights", held["lora_network_weights"])
    return held


def _carry(recipe: Recipe, key: str, given: Given, full: Mapping[str, Given], own: frozenset[str]) -> None:
    """One key: an argument, a part of one, or a word on why neither."""
    becomes = gui_keys()[key]
    word, _, rest = becomes.partition(" ")
    value = given.value

    def settled(reason: str, outcome: str = "same", quirks: tuple[str, ...] = ()) -> None:
        if not given.usual:
            recipe.settled.append(Result(key, value, outcome, reason=reason, quirks=quirks))  # type: ignore[arg-type]

    if key in ("LoRA_type", "additional_parameters", "epoch") or (key == "max_train_steps" and given.usual):
        if key == "epoch":
            _length(recipe, given, full)
        elif key == "LoRA_type" and str(value) in TYPES:
            pass
        elif key == "additional_parameters":
            settled("taken apart; what it says goes before the rest" if value else "empty")
        return
    if word in ("gui", "inert"):
        settled("has no meaning for the training there")
    elif word == "other":
        settled("belongs to another base", "lost" if recipe.base == "other" and not _empty(value) else "same")
    elif word == "base":
        settled("says which base this is for")
    elif key.startswith(("sdxl_", "flux1_", "sd3_")) and not key.startswith(f"{recipe.base.replace('flux', 'flux1')}_"):
        settled("belongs to another base, and is not read")
    elif key == "lora_network_weights":
        settled("the older name of network_weights")
    elif word == "launch":
        _launched(recipe, rest, given)
    elif key == "stop_text_encoder_training" and not _empty(value):
        recipe.args["stop_text_encoder_training"] = given
    elif key in ("ggpo_sigma", "ggpo_beta") and not full.get("train_lora_ggpo", Given("", False)).value:
        settled("only with train_lora_ggpo")
    elif word == "network_args":
        if key not in own and not key.startswith("loraplus_"):
            settled("not for this type of adapter")
        elif _empty(value) and key not in _ALWAYS and not (value == "0" and key.endswith(("_dim", "_mod_dim"))):
            settled("empty")
        elif key == "factor" and value == -1:
            settled("-1: as equal as possible")
        elif key in _CONV and recipe.args["network_module"].value in ("networks.loha", "networks.lokr") \
                and _empty(full["conv_dim"].value):  # fmt: skip
            settled("0: no convolutions")
        else:
            recipe.args[f"network_args.{rest}"] = given
    elif key in ("noise_offset", "adaptive_noise_scale", "noise_offset_random_strength") and _pyramid(full):
        settled("not read with noise_offset_type = Multires")
    elif key in ("multires_noise_iterations", "multires_noise_discount") and not _pyramid(full):
        settled("not read with noise_offset_type = Original")
    elif word == "list":
        for each in str(value or "").replace('"', "").split():
            name, sign, inner = each.partition("=")
            recipe.args[f"{rest}.{name}"] = Given(f"{key} {name}", inner if sign else True)
        settled("taken apart" if value else "empty")
    elif word == "share":
        _warm(recipe, given, full)
    elif word in ("noise", "legacy", "ggpo"):
        settled("chooses which of the others count")
    elif word == "attention":
        settled("PyTorch's own attention has kernels of the same kind")
    elif key == "t5xxl_lr":
        settled("used with text_encoder_lr" if not _empty(value) else "0: not set")
    elif key == "text_encoder_lr" or key == "unet_lr":
        _rate(recipe, key, given, full)
    elif _empty(value):
        if key in _SPEAKS_AS_ZERO and value == 0 and value is not False and value != "":
            recipe.args[becomes] = given
        else:
            settled("0, empty or off: not set")
    elif key == "max_timestep" and value == 1000:
        settled("all of them")
    elif becomes in recipe.args and not recipe.args[becomes].usual:
        settled(f"{recipe.args[becomes].name} says it already")
    else:
        recipe.args[becomes] = given


def _length(recipe: Recipe, given: Given, full: Mapping[str, Given]) -> None:
    """Epochs count only where no number of steps is set; then they are what was meant (Q-G2)."""
    epochs = _whole(full["max_train_epochs"].value, 0) if "max_train_epochs" in full else 0
    steps = _whole(full["max_train_steps"].value, 0)
    if epochs or (steps and not full["max_train_steps"].usual) or (given.usual and steps):
        if not epochs and given.usual and full["max_train_steps"].usual:
            recipe.args["max_train_steps"] = full["max_train_steps"]
        if not given.usual:
            why = "not read where max_train_steps or max_train_epochs is set"
            recipe.settled.append(Result("epoch", given.value, "same", reason=why))
    elif steps:
        why = (
            "the form's own max_train_steps of 1600 counts there, unless it is cleared; what the file says counts here"
        )
        recipe.args["epoch"] = given
        recipe.settled.append(Result("max_train_steps", 1600, "better", reason=why, quirks=("Q-G2",), usual=True))
    else:
        recipe.args["epoch"] = Given("epoch", given.value or 1, given.usual)


def _warm(recipe: Recipe, given: Given, full: Mapping[str, Given]) -> None:
    percent = _number(given.value, 0.0)
    absolute = _whole(full["lr_warmup_steps"].value, 0) if "lr_warmup_steps" in full else 0
    if absolute or not percent:
        if not given.usual:
            why = "lr_warmup_steps goes before it" if absolute else "0: none"
            recipe.settled.append(Result(given.name, given.value, "same", reason=why))
    else:
        recipe.args["lr_warmup_steps"] = Given(given.name, percent / 100, given.usual)


def _rate(recipe: Recipe, key: str, given: Given, full: Mapping[str, Given]) -> None:
    """0 leaves a part out, if the other one has a rate; without any, both take learning_rate."""
    words, unet = (_number(full[each].value, 0.0) for each in ("text_encoder_lr", "unet_lr"))
    mine, other = (words, unet) if key == "text_encoder_lr" else (unet, words)
    if not mine and other:
        flag = "network_train_unet_only" if key == "text_encoder_lr" else "network_train_text_encoder_only"
        recipe.args[flag] = Given(given.name, True, given.usual)
    elif not mine:
        recipe.settled.append(Result(key, given.value, "same", reason="0: learning_rate for both"))
    elif key == "text_encoder_lr" and recipe.base in ("flux", "sd3"):
        large = _number(full["t5xxl_lr"].value, 0.0) if "t5xxl_lr" in full else 0.0
        recipe.args[key] = Given(given.name, [mine, large or mine] if large else mine, given.usual)
    else:
        recipe.args[key] = given


def _launched(recipe: Recipe, name: str, given: Given) -> None:
    """What the launcher is told."""
    if _empty(given.value):
        recipe.settled.append(Result(given.name, given.value, "same", reason="empty"))
    elif name == "extra_accelerate_launch_args":
        why = "for the launcher, and there is none"
        recipe.settled.append(Result(given.name, given.value, "lost", reason=why))
    else:
        recipe.args[f"launch.{name}"] = given


def _base(full: Mapping[str, Given]) -> Base:
    def on(key: str) -> bool:
        return key in full and full[key].value in (True, "True", "true")

    if on("anima_checkbox") or on("hunyuan_image_checkbox") or on("lumina_checkbox"):
        return "other"
    kind = str(full["LoRA_type"].value)
    if kind in ("Anima", "Lumina", "HunyuanImage-2.1"):
        return "other"
    if on("flux1_checkbox") or kind.startswith("Flux1"):
        return "flux"
    return "sd3" if on("sd3_checkbox") else "sdxl" if on("sdxl") else "sd"


def _pyramid(full: Mapping[str, Given]) -> bool:
    return "noise_offset_type" in full and str(full["noise_offset_type"].value).casefold() == "multires"


def _empty(value: Any) -> bool:
    return value in ("", None, False, 0, "0", "0.0", [], "no", "none", "None", "False")


def _whole(value: Any, other: int) -> int:
    if isinstance(value, bool):
        return other
    if isinstance(value, int | float):
        return int(value) if math.isfinite(value) else other
    text = str(value).strip()
    return int(text) if re.fullmatch(r"[-+]?\d{1,18}", text) else other


def _number(value: Any, other: float) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return other
    return found if math.isfinite(found) else other

"""Arguments as the settings file of kohya_ss has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from impasto.compat.gui import TYPES
from impasto.compat.tables import LISTS, gui_keys

if TYPE_CHECKING:
    from impasto.compat.export import Exported

BLANK: dict[str, Any] = {
    "lr_warmup": 0, "lr_warmup_steps": 0, "max_train_steps": 0, "max_train_epochs": 0, "save_every_n_epochs": 0,
    "enable_bucket": False, "bucket_no_upscale": False, "conv_dim": 0, "conv_alpha": 0, "epoch": 1, "learning_rate": 0,
    "unet_lr": 0, "text_encoder_lr": 0, "network_dim": 0, "network_alpha": 0, "noise_offset_type": "Original",
    "mixed_precision": "", "save_precision": "", "max_resolution": "", "caption_extension": "", "xformers": "sdpa",
    "LyCORIS_preset": "full", "factor": -1, "unit": 1, "optimizer": "AdamW", "min_bucket_reso": 0,
    "max_bucket_reso": 0, "bucket_reso_steps": 0,
}  # fmt: skip
"""What has to be said, because the form holds something else."""


def settings(made: Exported, args: dict[str, Any]) -> dict[str, Any]:
    """A flat table. What has no key of its own is an additional parameter."""
    found = dict(BLANK)
    names = {
        becomes: key
        for key, becomes in reversed(list(gui_keys().items()))
        if not key.startswith(("flux1_", "sd3_", "sdxl_"))
    }
    found["sdxl"], found["flux1_checkbox"], found["sd3_checkbox"] = (
        made.base == each for each in ("sdxl", "flux", "sd3")
    )
    found["LoRA_type"] = _type(made, args)
    more: list[str] = []
    for name, value in args.items():
        if name in LISTS or name == "network_module":
            continue
        if name in ("lr_warmup_steps",) and isinstance(value, float):
            found["lr_warmup"] = value * 100 if (value * 100) != int(value * 100) else int(value * 100)
            if found["lr_warmup"] != int(found["lr_warmup"]):
                found["lr_warmup"] = 0
                more.append(f"--lr_warmup_steps {value}")
        elif name in names and not isinstance(value, list) and _passes(name, value):
            found[names[name]] = value
        else:
            listed = value if isinstance(value, list) else [] if value is True else [value]
            more.append(" ".join([f"--{name}", *map(str, listed)]))
    for part, other in (("unet_lr", "network_train_text_encoder_only"), ("text_encoder_lr", "network_train_unet_only")):
        if args.get(other):  # 0 leaves a part out, so one that is trained has to say its rate
            found[part] = 0
        elif not found[part] and args.get(part) != 0:
            found[part] = found["learning_rate"]
    if "multires_noise_iterations" in args:
        found["noise_offset_type"] = "Multires"
        more += [f"--{name} {args[name]}" for name in ("noise_offset", "adaptive_noise_scale") if name in args]
        more += ["--noise_offset_random_strength"] if "noise_offset_random_strength" in args else []
        for name in ("noise_offset", "adaptive_noise_scale", "noise_offset_random_strength"):
            found.pop(name, None)
    own = {f"network_args {each}" for each in made.network if each != "algo"}
    keys = {becomes: key for key, becomes in gui_keys().items() if becomes in own}
    sent = TYPES[found["LoRA_type"]][2]
    extra = []
    for name, value in made.network.items():
        key = keys.get(f"network_args {name}")
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
        if key in sent:
            found[key] = text
        elif name not in ("algo",):
            extra.append(f"{name}={text}")
    if extra:
        more.append(" ".join(["--network_args", *(f"{name}={_text(value)}" for name, value in made.network.items())]))
        if TYPES[found["LoRA_type"]][1] and "algo" not in made.network:
            more[-1] += f" algo={TYPES[found['LoRA_type']][1]}"
    for name, key in (("optimizer_args", "optimizer_args"), ("lr_scheduler_args", "lr_scheduler_args")):
        found[key] = " ".join(args.get(name, []))
    if made.prompts:
        found["sample_prompts"] = made.prompts
    found["additional_parameters"] = " ".join(more)
    return found


def _type(made: Exported, args: dict[str, Any]) -> str:
    algorithm = str(made.network.get("algo", ""))
    conv = "conv_dim" in made.network
    for name, (module, wanted, _) in TYPES.items():
        if module == args["network_module"].replace("lora_sd3", "lora") and wanted == algorithm:
            return "Kohya LoCon" if name == "Standard" and conv else name
    return "Standard"


def _passes(name: str, value: Any) -> bool:
    """Whether the form passes a value on: it drops 0, and text that is no whole number is 0 to it (Q-G1)."""
    if name in ("text_encoder_lr", "unet_lr", "seed", "max_grad_norm", "prior_loss_weight", "learning_rate"):
        return value not in (0, 0.0)
    return True


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

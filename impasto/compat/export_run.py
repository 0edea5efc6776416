"""The base, the length, files and previews, as arguments of sd-scripts."""

from __future__ import annotations

from collections.abc import Iterator

from impasto.compat.export import Exported
from impasto.compat.tables import SAMPLERS
from impasto.compat.to_model import SILENCE
from impasto.config import RunConfig
from impasto.families.card import usual_guidance

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def model(made: Exported, config: RunConfig) -> None:
    """Which base, held how."""
    base = config.model
    made.put("pretrained_model_name_or_path", base.path)
    vae = "ae" if made.base == "flux" else "vae"
    for name, path in ((vae, base.vae_path), ("clip_l", base.clip_l_path), ("clip_g", base.clip_g_path),
                       ("t5xxl", base.t5_path)):  # fmt: skip
        if path is not None:
            made.put(name, str(path))
    made.put("v_parameterization", base.prediction == "v", False)
    if base.prediction == "epsilon":
        made.lose('model.prediction = "epsilon"', "it is what is taken where nothing is said")
    if base.precision == "auto":
        made.lose('model.precision = "auto"', "say which")
    else:
        made.put("mixed_precision", PRECISIONS[base.precision])
    if base.text_encoder_precision != "auto":
        made.lose("model.text_encoder_precision")
    if base.vae_precision == "fp32":
        made.put("no_half_vae", True)
    if base.vae_tile is not None:
        made.lose("model.vae_tile")
    if (base.quantize, base.quantize_text_encoder) == ("fp8", "fp8"):
        made.put("fp8_base", True)
    elif (base.quantize, base.quantize_text_encoder) == ("fp8", "none"):
        made.put("fp8_base_unet", True)
    elif (base.quantize, base.quantize_text_encoder) != ("none", "none"):
        made.lose(f"model.quantize = {base.quantize}")
    if base.clip_skip != 1 and made.base == "sd":
        made.put("clip_skip", base.clip_skip)
    made.put("max_token_length", base.max_tokens, 75)
    made.put("weighted_captions", base.emphasis != "off", False)
    if base.emphasis == "mean":
        made.lose('model.emphasis = "mean"', "the plain form stands in")
    if not base.token_padding:
        made.lose("model.token_padding = false")
    made.put("gradient_checkpointing", base.gradient_checkpointing, False)
    made.put("cpu_offload_checkpointing", base.offload_checkpoints, False)
    made.put("disable_mmap_load_safetensors", base.reading == "plain", False)
    if made.base in ("flux", "sd3"):
        waiting = base.blocks_to_swap
        made.put("blocks_to_swap", round(waiting / 1.5) if made.base == "flux" else waiting, 0)
    elif base.blocks_to_swap:
        made.lose("model.blocks_to_swap")
    _compiled(made, config)
    if base.merged:
        made.put("base_weights", [str(each.path) for each in base.merged])
        made.put("base_weights_multiplier", [each.weight for each in base.merged])
    made.put("t5xxl_max_token_length", base.t5_tokens)
    if made.base == "flux":
        made.args["guidance_scale"] = base.guidance
    if made.base == "sd3":
        _sd3(made, config)
    if base.config_path is not None:
        made.lose("model.config_path")
    masks = {"none": (), "clip": ("lg",), "t5": ("t5",), "all": ("lg", "t5")}[base.text_encoder_mask]
    for mask in masks:
        made.put(f"apply_{mask}_attn_mask", True)


def _sd3(made: Exported, config: RunConfig) -> None:
    for name, chance in zip(SILENCE, config.data.silence.chances, strict=True):
        made.put(name, chance, 0.0)
    made.put("pos_emb_random_crop_rate", config.objective.places.anywhere, 0.0)
    made.put("enable_scaled_pos_embed", config.objective.places.scaled, False)


def _compiled(made: Exported, config: RunConfig) -> None:
    speed = config.speed
    if speed.attention != "auto":
        made.lose("speed.attention")
    if speed.graphs:
        made.lose("speed.graphs")
    if speed.compile == "off":
        return
    made.put("torch_compile", True)
    made.put("dynamo_backend", speed.backend, "inductor")
    if speed.autotune:
        made.lose("speed.autotune")


def run(made: Exported, config: RunConfig) -> None:
    """How long, what is saved, what is drawn."""
    train, save, output = config.train, config.save, config.output
    if train.steps is not None:
        made.put("max_train_steps", train.steps)
    else:
        made.put("max_train_epochs", train.epochs or 10)
    made.put("gradient_accumulation_steps", train.accumulate, 1)
    made.put("seed", train.seed)
    if train.text_encoder_until is not None:
        made.lose("train.text_encoder_until", "it is not available there (Q-S5)")
    made.put("output_name", config.name)
    made.put("output_dir", str(output.folder))
    made.put("save_model_as", "safetensors")
    made.put("save_precision", {"fp32": "float"}.get(save.precision, save.precision))
    made.put("save_every_n_epochs", save.every_epochs)
    made.put("save_every_n_steps", save.every_steps)
    made.put("save_n_epoch_ratio", None if save.every_epochs else save.files)
    if save.every_minutes is not None:
        made.lose("save.every_minutes")
    _kept(made, config)
    for name, value in (("metadata_title", output.title), ("metadata_author", output.author),
                        ("training_comment", output.comment), ("metadata_description", output.description),
                        ("metadata_license", output.license), ("metadata_tags", ", ".join(output.tags)),
                        ("metadata_trigger_phrase", output.trigger_phrase), ("metadata_usage_hint", output.usage_hint),
                        ("metadata_preprocessor", output.preprocessor)):  # fmt: skip
        made.put(name, value, "")
    usual = RunConfig()
    if output.log_every != usual.output.log_every:
        made.lose("output.log_every")
    if config.device != usual.device:
        made.lose("device", "it is chosen with accelerate")
    if config.validation != usual.validation or any(each.role == "validation" for each in config.data.sets):
        made.lose("validation")
    _previews(made, config)
    _tracked(made, config)


def _tracked(made: Exported, config: RunConfig) -> None:
    track = config.track
    if not track.to:
        return
    made.put("log_with", "all" if len(track.to) > 1 else track.to[0])
    if "tensorboard" in track.to:
        made.put("logging_dir", str(track.folder or "logs"))
    if "wandb" in track.to:
        made.put("log_tracker_name", track.project)
        made.put("wandb_run_name", track.name)
        if track.options:
            made.lose("track.options", "put them into a file for --log_tracker_config, in a table [wandb]")
    elif track.name:
        made.lose("track.name", "logs are named by the time there")


def _kept(made: Exported, config: RunConfig) -> None:
    save, usual = config.save, RunConfig().save
    if save.keep is not None:
        if save.every_steps and not save.every_epochs:
            made.put("save_last_n_steps", (save.keep - 1) * save.every_steps)
        else:
            made.put("save_last_n_epochs", save.keep)
    if save.keep_checkpoints != usual.keep_checkpoints:
        made.put("save_state", True)
        made.put("save_last_n_epochs_state", save.keep_checkpoints)
    if save.proof != usual.proof:
        made.lose("save.proof")
    if save.layout != usual.layout:
        made.lose("save.layout")


def _previews(made: Exported, config: RunConfig) -> None:
    preview = config.preview
    if not preview.prompts:
        return
    made.prompts = "".join(line + "\n" for line in _lines(made, config))
    made.put("sample_every_n_epochs", preview.every_epochs)
    if preview.every_epochs and preview.every_steps:
        made.lose("preview.every_steps", "beside epochs it is not read there")
    elif preview.every_steps:
        made.put("sample_every_n_steps", preview.every_steps)
    made.put("sample_at_first", preview.at_start, False)


def _lines(made: Exported, config: RunConfig) -> Iterator[str]:
    """A line for each prompt."""
    for prompt in config.preview.prompts:
        guidance = usual_guidance(made.base) if prompt.guidance is None else prompt.guidance
        told = prompt.embedded_guidance if made.base == "flux" else None
        sampler = next(name for name, ours in SAMPLERS.items() if ours == prompt.sampler)
        words = [" ".join(prompt.text.split())]
        words += [f"--n {' '.join(prompt.negative.split())}"] if prompt.negative else []
        for sign, value in (("w", prompt.width), ("h", prompt.height), ("d", prompt.seed), ("s", prompt.steps),
                            ("l", guidance), ("g", told), ("ss", sampler)):  # fmt: skip
            words += [] if value is None else [f"--{sign} {value}"]
        yield " ".join(words)

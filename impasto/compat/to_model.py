"""The base, its precision, and what it is told about captions."""

from __future__ import annotations

from impasto.compat.translating import Desk, tidy

SPLIT = 18
"""Blocks that wait with `split_mode`, counted as there for FLUX.1: one is a double block or two single ones."""

SILENCE = {"clip_l_dropout_rate": "clip_l", "clip_g_dropout_rate": "clip_g", "t5_dropout_rate": "t5"}
PLACES = ("pos_emb_random_crop_rate", "enable_scaled_pos_embed")
COMPILERS = ("inductor", "aot_eager", "eager")

PRECISIONS = {"fp16": "fp16", "bf16": "bf16", "no": "fp32", "float": "fp32", "fp32": "fp32"}


def model(desk: Desk) -> None:
    """Which base, held how."""
    base = desk.recipe.base
    if path := desk.text("pretrained_model_name_or_path"):
        desk.put("pretrained_model_name_or_path", ("model.path", path))
        if base == "other":
            desk.difference("the base", "lost", "bases of this family cannot be trained here")
    for name, key in (("vae", "vae_path"), ("clip_l", "clip_l_path"), ("clip_g", "clip_g_path"), ("t5xxl", "t5_path")):
        if not desk.text(name):
            continue
        if base == "flux" and name != "vae" and not _single(desk):
            desk.lost(name, "the folder has it")
        else:
            desk.put(name, (f"model.{key}", desk.text(name)))
    if desk.text("ae"):
        desk.put("ae", ("model.vae_path", desk.text("ae")))
    if desk.flag("v2"):
        desk.better("v2", "told from the weights themselves")
    if desk.flag("v_parameterization"):
        desk.put("v_parameterization", ("model.prediction", "v"), plain=True)
    if base == "flux":
        _flux(desk)
    if base == "sd3":
        _sd3(desk)
    else:
        for name in (*SILENCE, *PLACES):
            if desk.peek(name):
                desk.lost(name, "it is for Stable Diffusion 3")
    _precision(desk)
    _compiled(desk)
    _encoders(desk)
    _words(desk)


def _flux(desk: Desk) -> None:
    if str(desk.peek("model_type")).casefold() == "chroma":
        desk.lost("model_type", "Chroma is another base, and cannot be trained here")
    kind = desk.text("model_prediction_type") or "sigma_scaled"
    if kind == "raw":
        desk.same("model_prediction_type", "always so")
    elif desk.has("model_prediction_type"):
        desk.better("model_prediction_type", "always raw: the others do not fit what they are compared to", "Q-F1")
    else:
        desk.difference("model_prediction_type", "better", "raw; there, unset means sigma_scaled", "Q-F1")
    told = desk.number("guidance_scale")
    if told == 1:
        desk.same("guidance_scale", "as by default")
    elif told is not None:
        why = "1 is better: at it the base learns pictures as they are"
        desk.put("guidance_scale", ("model.guidance", tidy(told)), why=why, quirks=["Q-F10"])
    else:
        desk.difference("guidance_scale", "better", "the base is told 1; there, unset means 3.5", "Q-F10")
    if desk.flag("apply_t5_attn_mask"):
        desk.put("apply_t5_attn_mask", ("model.text_encoder_mask", "t5"), plain=True)
    _length(desk)
    if desk.has("max_token_length"):
        desk.same("max_token_length", "not read for this base")


def _sd3(desk: Desk) -> None:
    masks = {"t5": desk.flag("apply_t5_attn_mask"), "clip": desk.flag("apply_lg_attn_mask")}
    if any(masks.values()):
        kind = "all" if all(masks.values()) else next(name for name, on in masks.items() if on)
        for name in ("apply_t5_attn_mask", "apply_lg_attn_mask"):
            if desk.flag(name):
                desk.put(name, ("model.text_encoder_mask", kind), plain=True)
    _length(desk)
    for name, encoder in SILENCE.items():
        if rate := desk.number(name):
            desk.put(name, (f"data.silence.{encoder}", tidy(rate)))
    if rate := desk.number(PLACES[0]):
        desk.put(PLACES[0], ("objective.places.anywhere", tidy(rate)))
    if desk.flag(PLACES[1]):
        desk.put(PLACES[1], ("objective.places.scaled", True))
    if held := desk.text("t5xxl_dtype"):
        desk.put("t5xxl_dtype", ("model.text_encoder_precision", PRECISIONS.get(held, held)))
    if desk.has("max_token_length"):
        desk.same("max_token_length", "not read for this base")


def _single(desk: Desk) -> bool:
    return str(desk.get("model.path")).endswith((".safetensors", ".sft"))


def _length(desk: Desk) -> None:
    length = desk.whole("t5xxl_max_token_length")
    if length is None:
        return
    if 16 <= length <= 512:
        desk.put("t5xxl_max_token_length", ("model.t5_tokens", length), plain=True)
    else:
        desk.lost("t5xxl_max_token_length", "between 16 and 512 tokens are read")


def _compiled(desk: Desk) -> None:
    """The script's own option, or the launcher's."""
    asked = desk.flag("torch_compile")
    if asked:
        desk.put("torch_compile", ("speed.compile", "blocks"), why="its blocks, for fixed shapes")
    own, launched = desk.text("dynamo_backend"), desk.text("launch.dynamo_backend")
    if own and not asked:
        desk.same("dynamo_backend", "not read there either without torch_compile")
    elif own:
        _compiler(desk, "dynamo_backend", own)
    if launched and launched.casefold() == "no":
        desk.same("launch.dynamo_backend", "as by default")
    elif launched and asked:
        desk.same("launch.dynamo_backend", "torch_compile says so already")
    elif launched:
        desk.set("speed.compile", "blocks", "as the launcher was told")
        _compiler(desk, "launch.dynamo_backend", launched)


def _compiler(desk: Desk, name: str, told: str) -> None:
    kind = told.casefold()
    if kind in COMPILERS:
        desk.put(name, ("speed.backend", kind))
    else:
        desk.put(name, ("speed.backend", "inductor"), why="what torch itself compiles with is used")


def _precision(desk: Desk) -> None:
    kind = desk.text("mixed_precision") or desk.text("launch.mixed_precision")
    name = "mixed_precision" if desk.has("mixed_precision") else "launch.mixed_precision"
    if kind:
        desk.put(name, ("model.precision", PRECISIONS.get(kind, kind)), plain=True)
    elif desk.exact and desk.trains:
        desk.set("model.precision", "fp32", "as where nothing is said there")
    if desk.flag("gradient_checkpointing"):
        desk.put("gradient_checkpointing", ("model.gradient_checkpointing", True), plain=True)
    if desk.flag("cpu_offload_checkpointing"):
        if desk.get("model.gradient_checkpointing"):
            desk.put("cpu_offload_checkpointing", ("model.offload_checkpoints", True), plain=True)
        else:
            desk.same("cpu_offload_checkpointing", "without gradient_checkpointing there is nothing to move")
    if desk.flag("disable_mmap_load_safetensors"):
        desk.put("disable_mmap_load_safetensors", ("model.reading", "plain"))
    said = "blocks_to_swap" if desk.has("blocks_to_swap") else "split_mode"
    waiting = desk.whole("blocks_to_swap") or (SPLIT if desk.flag("split_mode") else 0)
    if waiting:
        found = waiting // 2 + 2 * (waiting - waiting // 2) if desk.recipe.base == "flux" else waiting
        desk.put(said, ("model.blocks_to_swap", found))
    merged = bool(desk.several("base_weights"))
    alone, both = desk.flag("fp8_base_unet"), desk.flag("fp8_base")
    if (alone or both) and merged:
        for name in ("fp8_base", "fp8_base_unet"):
            desk.lost(name, "an adapter cannot be merged into a base in few bits; merge it into a folder first")
    elif alone:
        desk.put("fp8_base_unet", ("model.quantize", "fp8"))
        desk.same("fp8_base", "fp8_base_unet goes before it")
    elif both:
        desk.put("fp8_base", ("model.quantize", "fp8"), ("model.quantize_text_encoder", "fp8"))
    if desk.flag("full_bf16"):
        if kind == "bf16":
            desk.put("full_bf16", ("optim.precision", "bf16"))
        else:
            desk.lost("full_bf16", "it needs mixed_precision = bf16, there too")
    if desk.flag("full_fp16"):
        desk.better("full_fp16", "the adapter stays in fp32: fp16 loses small updates", "Q-T2")


def _encoders(desk: Desk) -> None:
    """How much is encoded at once."""
    for name, most in (("vae_batch_size", 64), ("text_encoder_batch_size", 1024)):
        if (count := desk.whole(name)) is None:
            continue
        if count > 1:
            desk.put(name, (f"data.{name}", min(count, most)))
        else:
            desk.same(name, "one at a time, as by default")


def _words(desk: Desk) -> None:
    skip = desk.whole("clip_skip")
    if skip is not None:
        if skip <= 1:
            desk.same("clip_skip", "the last layer, as by default")
        elif desk.recipe.base == "sd":
            desk.put("clip_skip", ("model.clip_skip", skip))
        else:
            desk.same("clip_skip", "such a base always reads the layer before the last; it is not read there either")
    length = desk.whole("max_token_length")
    if length is not None:
        if length == 75:
            desk.same("max_token_length", "as by default")
        else:
            desk.put("max_token_length", ("model.max_tokens", length))
    if desk.flag("weighted_captions"):
        desk.put("weighted_captions", ("model.emphasis", "plain"), plain=True)
    files = (
        desk.several("base_weights") if not isinstance(desk.peek("base_weights"), str) else [desk.peek("base_weights")]
    )
    if files:
        weights = desk.several("base_weights_multiplier")
        merged = [
            {"path": str(path), **({"weight": tidy(float(weights[at]))} if at < len(weights) else {})}
            for at, path in enumerate(files)
        ]
        desk.put("base_weights", ("model.merged", merged))
        desk.same("base_weights_multiplier", "with base_weights")

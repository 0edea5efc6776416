"""OneTrainer's adapter: its kind, sizes, layers, and which parts are trained at which rate."""

from __future__ import annotations

from collections.abc import Mapping

from impasto.compat.translating import Desk, tidy

ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4")
COUNTS: Mapping[str, int] = {"sd": 1, "sdxl": 2, "flux": 2, "sd3": 3}
PARTS = ("unet", "transformer", "prior", *ENCODERS, "effnet_encoder", "decoder", "decoder_text_encoder",
         "decoder_vqgan")  # fmt: skip
KINDS: Mapping[str, str] = {"LORA": "lora", "LOHA": "loha", "OFT_2": "oft"}
LAYERS: Mapping[str, str] = {"attn-only": "attention", "attn-mlp": "attention-mlp", "full": "full"}
USUAL_RANK, USUAL_ALPHA = 16, 1


def encoders(desk: Desk) -> tuple[str, ...]:
    """The text encoders of the base."""
    return ENCODERS[: COUNTS.get(desk.recipe.base, 0)]


def adapter(desk: Desk) -> None:
    """All of it."""
    said = desk.text("peft_type") or "LORA"
    kind = KINDS.get(said.upper(), "")
    if not kind:
        desk.lost("peft_type", f"{said} is not here; this is a plain LoRA")
        kind = "lora"
    if desk.has("peft_type"):
        desk.put("peft_type", ("adapter.kind", kind))
    else:
        desk.set("adapter.kind", kind)
    _sizes(desk, kind)
    _layers(desk, kind)
    _parts(desk)
    if path := desk.text("lora_model_name"):
        desk.put("lora_model_name", ("adapter.start.path", path))
    if desk.flag("lora_decompose"):
        desk.put("lora_decompose", ("adapter.decompose", True))
        if desk.flag("lora_decompose_output_axis"):
            desk.lost("lora_decompose_output_axis", "lengths are learnt along the one axis that is usual")
    for name in ("lora_decompose_norm_epsilon", "lora_decompose_output_axis"):
        desk.same(name, "not read without lora_decompose" if not desk.get("adapter.decompose") else "off, or tiny")
    share = desk.number("dropout_probability")
    if share and kind == "lora":
        desk.put("dropout_probability", ("adapter.dropout", share))
    elif share:
        desk.lost("dropout_probability", f"an adapter of kind {kind} has none")
    if desk.text("lora_weight_dtype") == "BFLOAT_16":
        desk.put("lora_weight_dtype", ("optim.precision", "bf16"))
    elif desk.text("lora_weight_dtype") == "FLOAT_32":
        desk.same("lora_weight_dtype", "as by default")
    elif desk.text("lora_weight_dtype"):
        desk.better("lora_weight_dtype", "the adapter stays in fp32: fp16 loses small updates")


def _sizes(desk: Desk, kind: str) -> None:
    if kind == "oft":
        if size := desk.whole("oft_block_size"):
            desk.put("oft_block_size", ("adapter.block_size", size))
        for name in ("lora_rank", "lora_alpha"):
            desk.same(name, "a rotation has none")
        return
    rank, alpha = desk.whole("lora_rank"), desk.number("lora_alpha")
    usual = "not in the file: the usual value there"
    if rank:
        desk.put("lora_rank", ("adapter.rank", rank))
    else:
        desk.set("adapter.rank", USUAL_RANK, usual)
    if alpha is not None:
        desk.put("lora_alpha", ("adapter.alpha", tidy(alpha)))
    else:
        desk.set("adapter.alpha", USUAL_ALPHA, usual)


def _layers(desk: Desk, kind: str) -> None:
    preset = (desk.text("layer_filter_preset") or "").casefold()
    patterns = desk.text("layer_filter")
    layers = LAYERS.get(preset)
    if layers:
        pairs: list[tuple[str, object]] = [("adapter.targets.layers", layers)]
        if layers == "full" and kind != "oft" and desk.recipe.base in ("sd", "sdxl"):
            pairs += [
                ("adapter.conv_rank", desk.get("adapter.rank")),
                ("adapter.conv_alpha", desk.get("adapter.alpha")),
            ]
        elif layers == "full" and kind == "oft":
            pairs = [("adapter.conv", True)]
        desk.put("layer_filter_preset", *pairs)
        desk.same("layer_filter", "as the preset says")
    elif preset and preset != "custom":
        desk.lost(
            "layer_filter_preset", "which layers it means is not documented; see `impasto layers` for those of here"
        )
    elif not desk.has("layer_filter_preset"):
        why = "not in the file; which layers that means is not documented, and here they are attention and mlp"
        desk.difference("layer_filter_preset", "lost", why)
    if patterns:
        desk.lost("layer_filter", "layers have other names here: see `impasto layers` and write adapter.rules")
    desk.same("layer_filter", "empty")
    desk.same("layer_filter_preset", "with layer_filter")


def _parts(desk: Desk) -> None:
    denoiser = "transformer" if desk.recipe.base in ("flux", "sd3") else "unet"
    own = (denoiser, *encoders(desk))
    if denoiser == "transformer" and not any(each.startswith("transformer.") for each in desk.recipe.args):
        own += ("prior",)  # in older files it may have been that; the table tells of it
    for name in list(desk.recipe.args):
        part = name.partition(".")[0]
        if part in PARTS and part not in own and desk.recipe.base != "other" and "." in name:
            desk.same(name, "such a base has no such part")
    if desk.has(f"{denoiser}.train"):
        if desk.flag(f"{denoiser}.train"):
            desk.same(f"{denoiser}.train", "as by default")
        else:
            desk.put(f"{denoiser}.train", ("adapter.targets.unet", False))
    given = [each for each in encoders(desk) if desk.has(f"{each}.train")]
    if given and not any(desk.flag(f"{each}.train") for each in given):
        for each in given:
            desk.put(f"{each}.train", ("adapter.targets.text_encoder", False))
    elif not given and desk.recipe.base != "other":
        why = "not in the file, and what that means is not documented; here it is trained"
        desk.difference("text_encoder.train", "lost", why)

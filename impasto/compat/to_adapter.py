"""The adapter: its kind, sizes, and which layers it is on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from impasto.compat.tables import ALGORITHMS, LYCORIS, MODULES
from impasto.compat.translating import Desk, Odd, as_number, tidy

LOW_RANK = ("lora", "lora-fa")
RANKED = (*LOW_RANK, "dylora", "loha", "lokr", "glora")
PRODUCTS = ("loha", "lokr", "glora")
HUGE = 10_000
"""A rank from here on is how a whole second factor is asked for (LoKr)."""

LARGE = r"(resnets_\d+_conv[12]|samplers_0_conv|layers_[23]|_0_op|_2_conv)$"
"""The 3x3 convolutions and the samplers, in the names of either layout."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "full": {"layers": "full"},
    "full-lin": {"layers": "full", "rules": [{"match": LARGE, "skip": True}]},
    "attn-mlp": {"layers": "attention-mlp"},
    "attn-only": {"layers": "attention"},
    "unet-transformer-only": {"layers": "attention-mlp", "text_encoder": False},
    "unet-convblock-only": {"layers": "full", "text_encoder": False,
                            "rules": [{"role": role, "skip": True} for role in ("attention", "mlp", "projection")]},
}  # fmt: skip
"""What LyCORIS's presets of layers are called here."""

_KINDS_OF_FLUX = ("img_attn", "txt_attn", "img_mlp", "txt_mlp", "img_mod", "txt_mod", "single", "single_mod")


def adapter(desk: Desk) -> None:
    """All of it."""
    module = desk.text("network_module")
    kind, lycoris = "lora", module == LYCORIS
    if module:
        kind = _kind(desk, module)
    elif not desk.trains:
        return
    _parts(desk)
    _sizes(desk, kind, lycoris)
    _layers(desk, kind, lycoris)
    _dropouts(desk, kind, lycoris)
    _own(desk, kind, lycoris)
    _blocks(desk, kind)
    _rules(desk)
    _start(desk, kind)


def _kind(desk: Desk, module: str) -> str:
    algorithm = (desk.text("network_args.algo") or "lora").casefold()
    kind = ALGORITHMS.get(algorithm) if module == LYCORIS else MODULES.get(module)
    broken = {"ia3": "Q-N8", "full": "Q-N8"}.get(kind or "")
    if kind is None:
        desk.lost("network_module", f"{module if module != LYCORIS else algorithm} is not here; this is a plain LoRA")
        desk.same("network_args.algo")
        return "lora"
    pair = ("adapter.kind", kind)
    if broken and module == LYCORIS:
        desk.put("network_module", pair, why="it does not work there", quirks=[broken])
    elif kind == "dylora":
        why = "each visit trains the first so many rows alone, so that every rank can be used; previews roll no dice"
        desk.put("network_module", pair, why=why, quirks=["Q-N9" if module == LYCORIS else "Q-N4"])
    elif module == "networks.oft" or module == "networks.oft_flux":
        desk.lost(
            "network_module", "its blocks are counted, and here they have a size: a rotation of kind oft stands in"
        )
        desk.set("adapter.kind", kind)
    else:
        desk.put("network_module", pair, plain=True)
    desk.same("network_args.algo", "with network_module")
    return kind


def _parts(desk: Desk) -> None:
    if desk.flag("network_train_unet_only"):
        desk.put("network_train_unet_only", ("adapter.targets.text_encoder", False))
    if desk.flag("network_train_text_encoder_only"):
        desk.put("network_train_text_encoder_only", ("adapter.targets.unet", False))
    if desk.recipe.base in ("flux", "sd3"):
        if not desk.flag("network_args.train_t5xxl") and desk.get("adapter.targets.text_encoder") is not False:
            rates = desk.several("text_encoder_lr")
            clips = 1 if desk.recipe.base == "flux" else 2
            first = [tidy(as_number(each)) for each in rates[:clips]] or [tidy(desk.number("learning_rate") or 1e-4)]
            first += [first[-1]] * (clips - len(first))
            desk.set("optim.text_encoder_learning_rate", [*first, 0], "T5 is trained only with train_t5xxl")
            desk.same("text_encoder_lr", "as optim.text_encoder_learning_rate")
        desk.same("network_args.train_t5xxl", "as optim.text_encoder_learning_rate")


def _sizes(desk: Desk, kind: str, lycoris: bool) -> None:
    rank, alpha = desk.whole("network_dim"), desk.number("network_alpha")
    if kind == "lokr" and (rank or 0) >= HUGE:
        why = "so large a rank asks for a whole second factor; alpha counts as the rank then"
        desk.put("network_dim", ("adapter.full_matrix", True), why=why)
        desk.same("network_alpha", "has no effect then")
    elif kind in RANKED:
        if rank:
            desk.put("network_dim", ("adapter.rank", rank))
        if alpha is not None:
            quirks = ["Q-G1"] if alpha == 0 and desk.recipe.kind.endswith("kohya_ss") else []
            why = "0 means the rank; there it never arrives and is 1" if quirks else ""
            desk.put("network_alpha", ("adapter.alpha", tidy(alpha)), why=why, quirks=quirks)
    elif kind in ("oft", "boft"):
        if lycoris and rank:
            why = "the size of the blocks that are rotated"
            desk.put("network_dim", ("adapter.block_size", rank), why=why)
        elif rank:
            desk.lost("network_dim", "it counts the blocks of a layer, and here blocks have a size")
        if not lycoris and alpha:
            desk.put("network_alpha", ("adapter.constraint", tidy(alpha)), why="the bound of the rotation")
        desk.same("network_alpha", "a rotation has none")
    else:
        for name in ("network_dim", "network_alpha"):
            desk.same(name, f"an adapter of kind {kind} has none")
    _convolutions(desk, kind, lycoris)


def _convolutions(desk: Desk, kind: str, lycoris: bool) -> None:
    name, other = "network_args.conv_dim", "network_args.conv_alpha"
    rank, alpha = desk.whole(name), desk.number(other)
    if lycoris and rank is None and _opens(desk, lycoris):  # there, unset means as the others
        rank = desk.get("adapter.rank")
        alpha = desk.get("adapter.alpha") if alpha is None else alpha
        if kind in RANKED and rank:
            desk.set("adapter.conv_rank", rank, "unset there means as network_dim")
            desk.set("adapter.conv_alpha", alpha if alpha is not None else 1)
    elif not rank or not _opens(desk, lycoris):
        desk.same(name, "0: none" if not rank else "the preset leaves convolutions alone")
    elif kind not in RANKED:
        desk.same(name, f"an adapter of kind {kind} has no ranks")
    elif kind == "lokr" and rank >= HUGE:
        desk.put(name, ("adapter.conv_rank", min(rank, 64)), why="with full_matrix, ranks no longer matter")
        alpha = None
    elif kind == "dylora" and not lycoris and rank != (desk.get("adapter.rank") or 4):
        why = "there it has to be the rank, and anything else ends the run"
        desk.put(name, ("adapter.conv_rank", desk.get("adapter.rank") or 4), why=why, quirks=["Q-G4"])
        desk.set("adapter.conv_alpha", desk.get("adapter.alpha") or 1, "that of the others counts there")
        alpha = None
    else:
        desk.put(name, ("adapter.conv_rank", rank), plain=True)
    if alpha is not None and desk.get("adapter.conv_rank") and desk.has(other):
        desk.put(other, ("adapter.conv_alpha", tidy(alpha)), plain=True)
    desk.same(other, "there are no convolutions, or it has no effect on them")


def _opens(desk: Desk, lycoris: bool) -> bool:
    held = not lycoris or (desk.text("network_args.preset") or "full") in ("full", "unet-convblock-only")
    return held and desk.recipe.base != "flux"  # which has no convolutions


def _layers(desk: Desk, kind: str, lycoris: bool) -> None:
    if not lycoris:
        return
    preset = desk.text(name := "network_args.preset") or "full"
    chosen = PRESETS.get(preset)
    if preset in ("ia3", "unet-only") or (kind == "ia3" and preset == "full"):
        desk.same(name, "the layers that this kind is made for")
        return
    if chosen is None:
        desk.lost(name, f"{preset} is a file of targets, which is not read; write adapter.targets and adapter.rules")
        return
    by_rank = kind in RANKED and preset == "full" and desk.get("adapter.conv_rank") is not None
    by_rank |= desk.recipe.base == "flux" and chosen["layers"] == "full"  # its blocks are opened by themselves
    pairs = [] if by_rank else [("adapter.targets.layers", chosen["layers"])]
    pairs += [("adapter.rules", chosen["rules"])] if "rules" in chosen else []
    pairs += [("adapter.targets.text_encoder", False)] if "text_encoder" in chosen else []
    if kind in ("full", "oft", "boft") and preset == "full":
        pairs = [] if desk.recipe.base == "flux" else [("adapter.conv", True)]
    if desk.has(name):
        desk.put(name, *pairs, plain=True)
    else:
        for key, value in pairs:
            desk.set(key, value, "the usual preset there, full")
    if preset in ("full", "full-lin", "unet-convblock-only") and desk.recipe.base == "sd":
        around = {"full": "conv_in, conv_out, time_embedding", "full-lin": "time_embedding"}
        what = around.get(preset, "conv_in, conv_out")
        desk.difference("layers of the preset", "lost", f"{what}: no adapter is put there")


def _dropouts(desk: Desk, kind: str, lycoris: bool) -> None:
    names = ("network_dropout", "network_args.dropout")
    for name in names:
        share = desk.number(name)
        if not share:
            desk.same(name, "0: none")
        elif kind in LOW_RANK:
            why = "here it has an effect; there, only with bypass_mode" if lycoris else ""
            desk.put(name, ("adapter.dropout", share), why=why, quirks=["Q-N11/12"] if lycoris else [])
        else:
            desk.lost(name, f"an adapter of kind {kind} has none" + (", and there it has no effect" if lycoris else ""))
    share = desk.number("network_args.rank_dropout")
    if not share:
        desk.same("network_args.rank_dropout", "0: none")
    elif kind in (*LOW_RANK, *PRODUCTS):
        why = "rows of the rank are left out; there, outputs of the layer" if lycoris and kind in LOW_RANK else ""
        desk.put("network_args.rank_dropout", ("adapter.rank_dropout", share), plain=True, why=why)
    share = desk.number("network_args.module_dropout")
    if not share:
        desk.same("network_args.module_dropout", "0: none")
    elif kind != "dylora":
        desk.put("network_args.module_dropout", ("adapter.module_dropout", share), plain=True)


def _own(desk: Desk, kind: str, lycoris: bool) -> None:
    """Settings of single kinds."""

    def switch(name: str, key: str, kinds: Sequence[str], *, quirks: Sequence[str] = (), why: str = "") -> None:
        full = f"network_args.{name}"
        if not desk.has(full):
            return
        if not desk.flag(full):
            if quirks:
                desk.better(full, why, *quirks)
            else:
                desk.same(full, "off")
        elif kind in kinds:
            desk.put(full, (f"adapter.{key}", True), plain=True)
        else:
            desk.lost(full, f"an adapter of kind {kind} has none")

    switch("dora_wd", "decompose", ("lora", "loha", "lokr"))
    switch("rs_lora", "rank_stabilized", RANKED)
    why = "off means off; there, the text False counts as true"
    switch("decompose_both", "decompose_both", ("lokr",), quirks=["Q-N7"] if lycoris else [], why=why)
    switch("full_matrix", "full_matrix", ("lokr",))
    switch("rescaled", "rescaled", ("oft", "boft"))
    if desk.get("adapter.targets.unet") is False and desk.flag("network_args.train_norm"):
        desk.lost("network_args.train_norm", "norms are trained in the denoiser, which is left out")
    else:
        switch("train_norm", "train_norm", (*RANKED, "ia3", "full", "oft", "boft"))
    switch("enable_conv", "conv", ("oft",))
    for name, why in (("use_tucker", "the small core of convolutions (Tucker) is not here"),
                      ("use_cp", "the small core of convolutions (Tucker) is not here"),
                      ("use_conv_cp", "the small core of convolutions (Tucker) is not here"),
                      ("use_scalar", "a learnt factor in front of the whole is not here"),
                      ("enable_all_linear", "rotations are on whole transformers here")):  # fmt: skip
        full = f"network_args.{name}"
        if desk.has(full) and not desk.flag(full):
            desk.same(full, "off")
        elif desk.has(full):
            desk.lost(full, why)
    for name in ("rank_dropout_scale", "train_on_input"):
        desk.better(f"network_args.{name}", "accepted there, and without any effect", "Q-N11/12")
    desk.same("network_args.bypass_mode", "the same numbers by another way")
    if desk.has("network_args.wd_on_output"):
        if desk.flag("network_args.wd_on_output"):
            desk.same("network_args.wd_on_output", "always")
        else:
            desk.lost("network_args.wd_on_output", "lengths of columns; here, those of rows are learnt, as is usual")
    if factor := desk.whole("network_args.factor"):
        if factor > 0 and kind == "lokr":
            desk.put("network_args.factor", ("adapter.factor", factor), plain=True)
        else:
            desk.same("network_args.factor", "-1: as equal as possible")
    for name in ("unit", "block_size"):
        if (unit := desk.whole(f"network_args.{name}")) and kind == "dylora":
            desk.put(f"network_args.{name}", ("adapter.unit", unit), plain=True)
    for name in ("constraint", "constrain"):
        if bound := desk.number(f"network_args.{name}"):
            desk.put(f"network_args.{name}", ("adapter.constraint", bound), plain=True)
        elif desk.has(f"network_args.{name}"):
            desk.same(f"network_args.{name}", "0: none")
    bound = desk.number("scale_weight_norms")
    if bound and kind in _bounded(desk) and not desk.get("adapter.decompose"):
        desk.put("scale_weight_norms", ("adapter.max_norm", tidy(bound)))
    elif bound:
        desk.lost("scale_weight_norms", f"an adapter of kind {kind} has no such bound, or learns its length")


def _bounded(desk: Desk) -> tuple[str, ...]:
    from impasto.adapters import config

    kinds = (config.Lora, config.LoraFa, config.DyLora, config.Loha, config.Lokr, config.Glora, config.Ia3, config.Full)
    return tuple(each.model_fields["kind"].default for each in kinds if "max_norm" in each.model_fields)


def _blocks(desk: Desk, kind: str) -> None:
    xl = desk.recipe.base == "sdxl"
    counts = {"down": 9 if xl else 12, "mid": 3 if xl else 1, "up": 9 if xl else 12}
    for stage, count in counts.items():
        name = f"network_args.{stage}_lr_weight"
        if not desk.has(name):
            continue
        said = (desk.text(name) or "").strip()
        if re.match(r"[a-z_]+", said):
            desk.put(name, (f"adapter.blocks.{stage}_rates", said.replace(" ", "")), plain=True)
            continue
        factors = [tidy(as_number(each)) for each in said.split(",") if each.strip()]
        if not factors:
            desk.same(name, "empty")
        elif "," not in said and stage != "mid":
            desk.put(name, (f"adapter.blocks.{stage}_rates", factors[0]), why="one for all; there, it ends the run",
                     quirks=["Q-N3"])  # fmt: skip
        elif len(factors) == count == 1:
            desk.put(name, (f"adapter.blocks.{stage}_rates", factors[0]), plain=True)
        elif len(factors) != count:
            whole = [*factors, *[1] * count][:count]
            desk.put(
                name, (f"adapter.blocks.{stage}_rates", whole), why=f"filled up or cut to {count}", quirks=["Q-N3"]
            )
        else:
            desk.put(name, (f"adapter.blocks.{stage}_rates", factors), plain=True)
    if bound := desk.number("network_args.block_lr_zero_threshold"):
        desk.put("network_args.block_lr_zero_threshold", ("adapter.blocks.zero_threshold", bound), plain=True)
    for name, key in (("block_dims", "ranks"), ("block_alphas", "alphas"), ("conv_block_dims", "conv_ranks"),
                      ("conv_block_alphas", "conv_alphas")):  # fmt: skip
        listed = [tidy(as_number(each)) for each in desk.several(f"network_args.{name}")]
        if listed and kind in RANKED:
            desk.put(f"network_args.{name}", (f"adapter.blocks.{key}", listed), plain=True)


def _rules(desk: Desk) -> None:
    """Layers that are chosen by kind, number or name."""
    rules: list[dict[str, Any]] = []
    for part in _KINDS_OF_FLUX:
        name = f"network_args.{part}_dim"
        if desk.has(name):
            rank = desk.whole(name)
            where = {"single": r"single_blocks_\d+_linear", "single_mod": r"single_blocks_\d+_modulation"}
            rules.append({"match": where.get(part, rf"double_blocks_\d+_{part}_"), **(_rank(rank))})
            desk.put(name, plain=True)
            desk.results[-1] = _pointing(desk, "adapter.rules")
    blocks = (desk.text("network_args.train_blocks") or "all").casefold()
    if blocks in ("double", "single"):
        other = "single" if blocks == "double" else "double"
        rules.append({"match": f"{other}_blocks_", "skip": True})
        quirks = ["Q-G3"] if desk.recipe.kind.endswith("kohya_ss") else []
        desk.put("network_args.train_blocks", why="it arrives" if quirks else "", quirks=quirks)
        desk.results[-1] = _pointing(desk, "adapter.rules")
    else:
        desk.same("network_args.train_blocks", "all")
    for part, count in (("double", 19), ("single", 38)):
        name = f"network_args.train_{part}_block_indices"
        if desk.has(name):
            wanted = _numbers(desk.text(name) or "", count)
            left = [str(each) for each in range(count) if each not in wanted]
            if left:
                rules.append({"match": rf"{part}_blocks_({'|'.join(left)})_", "skip": True})
            desk.put(name, plain=True)
            desk.results[-1] = _pointing(desk, "adapter.rules")
    for name, key in (("network_reg_dims", "rank"), ("network_reg_lrs", "rate")):
        for each in filter(None, (desk.text(f"network_args.{name}") or "").split(",")):
            match, _, value = each.partition("=")
            number = as_number(value)
            if key == "rate":
                number /= desk.number("unet_lr") or desk.number("learning_rate") or 1e-4
            rules.append({"match": match, key: int(number) if key == "rank" else tidy(number)})
        if desk.has(f"network_args.{name}"):
            desk.put(f"network_args.{name}", plain=True)
            desk.results[-1] = _pointing(desk, "adapter.rules")
    if rules:
        desk.set("adapter.rules", [*(desk.get("adapter.rules") or []), *rules])
    if desk.flag("network_args.split_qkv"):
        why = "queries, keys and values share one adapter; there, files of split ones are weaker than trained (Q-F7)"
        desk.lost("network_args.split_qkv", why)


def _rank(rank: int | None) -> dict[str, Any]:
    return {"rank": rank} if rank else {"skip": True}


def _pointing(desk: Desk, key: str) -> Any:
    from dataclasses import replace

    return replace(desk.results[-1], settings=(key,))


def _numbers(text: str, count: int) -> set[int]:
    """`0,1,4-7`, `all`, `none`."""
    if text.strip() in ("all", "none", ""):
        return set(range(count)) if text.strip() == "all" else set()
    found: set[int] = set()
    for each in text.split(","):
        first, _, last = each.strip().partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            raise Odd(f"{each!r} is no number of a block")
        found |= set(range(int(first), min(int(last or first), count) + 1))
    return found


def _start(desk: Desk, kind: str) -> None:
    if path := desk.text("network_weights"):
        pairs = [("adapter.start.path", path)]
        if desk.flag("dim_from_weights") and kind in (*LOW_RANK, "dylora"):
            pairs.append(("adapter.start.sizes", "file"))
        desk.put("network_weights", *pairs)
        if desk.flag("dim_from_weights") and len(pairs) == 1:
            desk.lost("dim_from_weights", f"the sizes of kind {kind} have to be set")
        desk.same("dim_from_weights", "with network_weights")
    for name, key in (("loraplus_lr_ratio", "lora_plus"), ("loraplus_unet_lr_ratio", "unet_lora_plus"),
                      ("loraplus_text_encoder_lr_ratio", "text_encoder_lora_plus")):  # fmt: skip
        ratio = desk.number(f"network_args.{name}")
        if ratio and kind in (*LOW_RANK, "dylora"):
            desk.put(f"network_args.{name}", (f"optim.{key}", tidy(ratio)), plain=True)
        elif desk.has(f"network_args.{name}"):
            desk.same(f"network_args.{name}", "0: none" if not ratio else f"has no effect on kind {kind}, there either")

"""The adapter, as arguments of sd-scripts and LyCORIS."""

from __future__ import annotations

from typing import Any

from impasto.adapters import config as kinds
from impasto.compat.export import Exported
from impasto.compat.tables import LYCORIS
from impasto.config import RunConfig

KOHYA = {"lora": "networks.lora", "lora-fa": "networks.lora_fa", "dylora": "networks.dylora"}
ALGORITHMS = {"lora": "locon", "loha": "loha", "lokr": "lokr", "glora": "glora", "ia3": "ia3", "full": "full",
              "oft": "diag-oft", "boft": "boft"}  # fmt: skip
PRESETS = {"full": "full", "attention-mlp": "attn-mlp", "attention": "attn-only"}


def adapter(made: Exported, config: RunConfig) -> None:
    """All of it."""
    held = config.adapter
    lycoris = held.kind not in KOHYA or getattr(held, "decompose", False) or getattr(held, "rank_stabilized", False)
    lycoris = lycoris and held.kind in ALGORITHMS
    if lycoris:
        made.put("network_module", LYCORIS)
        made.network["algo"] = ALGORITHMS[held.kind]
        made.network["preset"] = PRESETS[held.layers]
    else:
        module = (
            {"sd3": "networks.lora_sd3", "flux": "networks.lora_flux"}.get(made.base) if held.kind == "lora" else None
        )
        made.put("network_module", module or KOHYA[held.kind])
        if held.layers != ("full" if held.opens_convolutions else "attention-mlp"):
            made.lose("adapter.targets.layers", "whole transformers there")
        if getattr(held, "rank_stabilized", False):
            made.lose("adapter.rank_stabilized")
    if not held.targets.text_encoder:
        made.put("network_train_unet_only", True)
    if not held.targets.unet:
        made.put("network_train_text_encoder_only", True)
    _sizes(made, held, lycoris)
    _shares(made, held)
    _own(made, held)
    if held.blocks is not None:
        _blocks(made, held.blocks, lycoris)
    if held.rules:
        made.lose("adapter.rules")
    if held.start is not None:
        made.put("network_weights", str(held.start.path))
        made.put("dim_from_weights", held.start.sizes == "file", False)


def _sizes(made: Exported, held: Any, lycoris: bool) -> None:
    if isinstance(held, kinds.Ranked):
        whole = isinstance(held, kinds.Lokr) and held.full_matrix
        made.put("network_dim", 100000 if whole else held.rank)
        made.put("network_alpha", held.alpha)
        if held.conv_rank is not None:
            made.network["conv_dim"] = held.conv_rank
            made.network["conv_alpha"] = held.conv_alpha
        elif lycoris:
            made.network["conv_dim"] = 0
    elif isinstance(held, kinds.Oft | kinds.Boft):
        made.put("network_dim", held.block_size)
        if held.constraint:
            made.network["constraint"] = held.constraint


def _shares(made: Exported, held: Any) -> None:
    if share := getattr(held, "dropout", 0):
        made.put("network_dropout", share)
    for name in ("rank_dropout", "module_dropout"):
        if share := getattr(held, name, 0):
            made.network[name] = share
    if bound := getattr(held, "max_norm", None):
        made.put("scale_weight_norms", bound)


def _own(made: Exported, held: Any) -> None:
    for ours, there in (("decompose", "dora_wd"), ("decompose_both", "decompose_both"), ("rescaled", "rescaled"),
                        ("rank_stabilized", "rs_lora"), ("train_norm", "train_norm")):  # fmt: skip
        if getattr(held, ours, False) and made.args["network_module"] == LYCORIS:
            made.network[there] = True
    if isinstance(held, kinds.Lokr) and held.factor is not None:
        made.network["factor"] = held.factor
    if isinstance(held, kinds.DyLora):
        made.network["unit"] = held.unit
        if held.conv_rank not in (None, held.rank):
            made.lose("adapter.conv_rank", "there it has to be the rank (Q-G4)")


def _blocks(made: Exported, blocks: Any, lycoris: bool) -> None:
    if lycoris:
        made.lose("adapter.blocks", "not with this kind")
        return
    for stage in ("down", "mid", "up"):
        factors = getattr(blocks, f"{stage}_rates")
        if factors is None:
            continue
        count = {"down": 9, "mid": 3, "up": 9} if made.base == "sdxl" else {"down": 12, "mid": 1, "up": 12}
        if isinstance(factors, int | float):
            factors = [factors] * count[stage]
        made.network[f"{stage}_lr_weight"] = list(factors) if isinstance(factors, tuple) else factors
    if blocks.zero_threshold:
        made.network["block_lr_zero_threshold"] = blocks.zero_threshold
    for ours, there in (("ranks", "block_dims"), ("alphas", "block_alphas"), ("conv_ranks", "conv_block_dims"),
                        ("conv_alphas", "conv_block_alphas")):  # fmt: skip
        if (listed := getattr(blocks, ours)) is not None:
            made.network[there] = list(listed)

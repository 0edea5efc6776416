"""A checkpoint's folder is told by the adapter in it."""

from __future__ import annotations

from pathlib import Path

import torch

from impasto.weights import file
from impasto.weights.inspect import inspect


def test_a_checkpoint_folder_is_told_by_its_adapter(tmp_path: Path) -> None:
    name = "lora_unet_down_blocks_0_attentions_0_proj_in"
    tensors = {
        f"{name}.lora_down.weight": torch.zeros(2, 8, 1, 1),
        f"{name}.lora_up.weight": torch.zeros(8, 2, 1, 1),
        f"{name}.alpha": torch.tensor(1.0),
    }
    file.write(tmp_path / "adapter.safetensors", tensors, {}, "fp32")
    assert inspect(tmp_path).what == "LoRA"

"""Names of number formats, and what torch calls them."""

from __future__ import annotations

import torch

from impasto.families.config import Model, Precision

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def text_dtype(model: Model, denoiser: torch.dtype) -> torch.dtype:
    """What the text encoder is held and computed in, where the denoiser is in `denoiser`."""
    return denoiser if model.text_encoder_precision == "auto" else DTYPES[model.text_encoder_precision]

"""How adapter files name the layers of a model: as sd-scripts does, which every other program reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from impasto.adapters.targets import Part

T5 = 3
"""The text encoder's number that always means T5, whose paths stand as they are."""


def kohya_name(part: Part, path: str, *, encoder: int | None = None) -> str:
    """The name in adapter files of the layer at the dotted `path` inside `part`.

    `encoder` numbers the text encoder where a family has more than one (1, 2, or 3 for T5); None means the only one.
    Dots become underscores, so a name cannot be read backwards: look it up among the names of a model.
    """
    if part == "unet":
        return _joined("lora_unet", path)
    prefix = "lora_te" if encoder is None else f"lora_te{encoder}"
    return _joined(prefix, path if encoder == T5 else _published(path))


def _published(path: str) -> str:
    """transformers 5.6 took `text_model` out of CLIPTextModel's paths; files everywhere have it."""
    return path if path.startswith("text_model.") else f"text_model.{path}"


def _joined(prefix: str, path: str) -> str:
    return f"{prefix}.{path}".replace(".", "_")

"""Settings that a base does not know: refused, for a setting that is passed over in silence is a wish that fails.

No weights, no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from impasto.errors import Problem
from impasto.families.card import ENCODERS, TITLES, Card, Name, Part
from impasto.families.config import Model

BESIDE: Mapping[Name, tuple[Part, ...]] = {
    "sd1": ENCODERS[:1], "sdxl": ENCODERS[:2], "sd3": ENCODERS, "flux": ("text_encoder", "text_encoder_3"),
}  # fmt: skip
"""Text encoders that may lie in files of their own beside a single file."""

MASKS: Mapping[Name, tuple[str, ...]] = {"sd3": ("clip", "t5", "all"), "flux": ("t5",)}
"""Which text encoders can be kept from the empty tokens. CLIP looks back only, and of FLUX.1's the end alone counts."""

FILES: Mapping[Part, str] = dict(zip(ENCODERS, ("clip_l_path", "clip_g_path", "t5_path"), strict=True))
"""The settings that give them."""


def settings(card: Card, model: Model) -> list[Problem]:
    """What is set in `model` and means nothing to the base of `card`."""
    found = [*_files(card, model), *_words(card, model)]
    return [*found, *_not_with(card.family, model)] if card.family in ("sdxl", "sd3", "flux") else found


def given(model: Model) -> dict[Part, Path | None]:
    """The files that the settings give for text encoders."""
    return {part: getattr(model, name) for part, name in FILES.items()}


def _files(card: Card, model: Model) -> Iterator[Problem]:
    takes = BESIDE.get(card.family, ()) if card.original else ()
    what = f"{TITLES[card.family]} in {'a single file' if card.original else 'a folder'} takes no such file"
    for part, path in given(model).items():
        if path is not None and part not in takes:
            yield Problem("E-MOD-107", what, f"model.{FILES[part]}", "delete this setting")


def _words(card: Card, model: Model) -> Iterator[Problem]:
    title = TITLES[card.family]
    masks = ("none", *MASKS.get(card.family, ()))
    if model.text_encoder_mask not in masks:
        fix = "text_encoder_mask = " + " or ".join(f'"{each}"' for each in masks)
        what = f"{title} has no such mask in its text encoders"
        yield Problem("E-MOD-107", what, "model.text_encoder_mask", fix)
    if model.t5_tokens is not None and not card.t5_tokens:
        yield Problem("E-MOD-107", f"{title} has no T5", "model.t5_tokens", "delete this setting")
    if model.guidance != 1.0 and not card.guided:
        what = f"this {title} is told no guidance; FLUX.1 dev is"
        yield Problem("E-MOD-107", what, "model.guidance", "guidance = 1.0")


def _not_with(family: Name, model: Model) -> list[Problem]:
    """Settings that Stable Diffusion XL, 3 and FLUX.1 do not know."""
    wrong = []
    if family == "sd3" and model.max_tokens != 75:
        what = "Stable Diffusion 3 reads 75 tokens with CLIP, and those of model.t5_tokens with T5"
        wrong.append(Problem("E-MOD-107", what, "model.max_tokens", "max_tokens = 75"))
    if family == "flux" and (model.max_tokens != 75 or model.clip_skip != 1):
        what = "FLUX.1 reads 75 tokens with CLIP and those of model.t5_tokens with T5, always the last layer"
        name, value = ("max_tokens", 75) if model.max_tokens != 75 else ("clip_skip", 1)
        wrong.append(Problem("E-MOD-107", what, f"model.{name}", f"{name} = {value}"))
    elif model.clip_skip > 2:
        what = f"{TITLES[family]} reads the layer before the last (which clip_skip 2 means too), and no other"
        wrong.append(Problem("E-MOD-107", what, "model.clip_skip", "clip_skip = 1"))
    if family == "sdxl":
        return wrong
    if model.emphasis != "off":
        what = f"emphasis cannot be used with {TITLES[family]} yet"
        wrong.append(Problem("E-MOD-107", what, "model.emphasis", 'emphasis = "off"'))
    if not model.token_padding:
        what = f"captions without padding cannot be used with {TITLES[family]} yet"
        wrong.append(Problem("E-MOD-107", what, "model.token_padding", "token_padding = true"))
    return wrong

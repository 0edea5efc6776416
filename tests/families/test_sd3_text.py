"""Captions are told to Stable Diffusion 3 as diffusers' own pipeline tells them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from impasto import families
from impasto.errors import ModelFileError
from impasto.families import detect, sd3_text, tiny
from impasto.families.config import Model
from impasto.families.sd3_text import CLIP_G, CLIP_L, T5, Widths
from impasto.families.tiny import byte_tokenizer

WIDTHS = Widths(clip_l=16, clip_g=24, t5=48, t5_tokens=12)


def clip(width: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    tokenizer = byte_tokenizer()
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=32, num_hidden_layers=3,
            num_attention_heads=2, projection_dim=width, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def encoders() -> dict[int, Any]:
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    t5 = T5Config(vocab_size=40, d_model=48, d_kv=8, d_ff=16, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu")
    return {CLIP_L: clip(16), CLIP_G: clip(24), T5: T5EncoderModel(t5).eval()}


@pytest.fixture(scope="module")
def cond() -> dict[str, torch.Tensor]:
    said = ["a red thing", "b"]
    ids, ids_2 = (
        tokenizer(said, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        for tokenizer in (byte_tokenizer(), byte_tokenizer(pad="!"))
    )
    return {"ids": ids, "ids_2": ids_2, "ids_3": torch.tensor([[5, 6, 7, 1, *[0] * 8], [9, 1, *[0] * 10]])}


class Spelt:
    """Stands where diffusers expects T5's tokenizer: its vocabulary is not what is tried here."""

    def __init__(self, ids: torch.Tensor) -> None:
        self.input_ids = ids

    def __call__(self, *_: Any, **__: Any) -> Spelt:
        return self

    def batch_decode(self, _: Any) -> str:
        return ""


@pytest.mark.parametrize("with_t5", [True, False])
@torch.no_grad()
def test_captions_are_encoded_as_in_diffusers(
    encoders: dict[int, Any], cond: dict[str, torch.Tensor], *, with_t5: bool
) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    there = {number: each for number, each in encoders.items() if with_t5 or number != T5}
    pipeline = StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(num_layers=1, joint_attention_dim=48, pos_embed_max_size=8),
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=None, text_encoder=there[CLIP_L],
        tokenizer=byte_tokenizer(), text_encoder_2=there[CLIP_G], tokenizer_2=byte_tokenizer(pad="!"),
        text_encoder_3=there.get(T5), tokenizer_3=None,
    )  # fmt: skip
    pipeline.tokenizer_3 = Spelt(cond["ids_3"])
    states, _, pooled, _ = pipeline.encode_prompt(
        ["a red thing", "b"], None, None, do_classifier_free_guidance=False, max_sequence_length=12, device="cpu"
    )
    ours = sd3_text.encode(there, cond, WIDTHS)
    assert torch.equal(ours["states"], states)
    assert torch.equal(ours["pooled"], pooled)


@pytest.mark.parametrize("missing", [CLIP_L, CLIP_G, T5])
@torch.no_grad()
def test_an_encoder_that_is_missing_says_zeros(
    encoders: dict[int, Any], cond: dict[str, torch.Tensor], missing: int
) -> None:
    whole = sd3_text.encode(encoders, cond, WIDTHS)
    found = sd3_text.encode({each: encoders[each] for each in encoders if each != missing}, cond, WIDTHS)
    silent = {CLIP_L: (slice(77), slice(0, 16)), CLIP_G: (slice(77), slice(16, 40)), T5: (slice(77, None), slice(48))}
    tokens, width = silent[missing]
    for told in (whole, found):
        told["states"] = told["states"].clone()
    assert whole["states"][:, tokens, width].abs().max() > 0
    assert not found["states"][:, tokens, width].any()
    whole["states"][:, tokens, width] = 0
    assert torch.equal(found["states"], whole["states"])
    assert bool(found["pooled"][:, :16].any()) is (missing != CLIP_L)
    assert bool(found["pooled"][:, 16:].any()) is (missing != CLIP_G)


@torch.no_grad()
def test_tokens_that_are_not_seen_change_nothing_before_them(
    encoders: dict[int, Any], cond: dict[str, torch.Tensor]
) -> None:
    seen = torch.tensor([[1] * 4 + [0] * 8, [1] * 2 + [0] * 10])
    other = {**cond, "ids_3": cond["ids_3"].where(seen.bool(), 33)}
    masked, changed = (sd3_text.encode(encoders, {**each, "seen_3": seen}, WIDTHS)["states"] for each in (cond, other))
    assert torch.allclose(masked[0, 77:81], changed[0, 77:81], atol=1e-6)
    assert not torch.allclose(
        sd3_text.encode(encoders, cond, WIDTHS)["states"][0, 77:81],
        sd3_text.encode(encoders, other, WIDTHS)["states"][0, 77:81], atol=1e-6,
    )  # fmt: skip


def test_a_mask_ends_with_the_end_mark() -> None:
    ids = torch.tensor([[7, 5, 9, 9, 9], [7, 5, 6, 9, 0], [7, 9, 0, 0, 0]])
    assert sd3_text.up_to_end(ids, 9).tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]


@torch.no_grad()
@pytest.mark.parametrize(("mask", "seen"), [("none", set()), ("t5", {"seen_3"}), ("clip", {"seen", "seen_2"})])
def test_masks_are_told_where_they_are_asked_for(tmp_path: Path, mask: str, seen: set[str]) -> None:
    model = Model.model_validate({"path": str(tiny.stable_diffusion_3(tmp_path / "base")), "text_encoder_mask": mask})
    family = families.load(detect.look(model), model, device=torch.device("cpu"), dtype=torch.float32)
    cond = family.tokenize(["a red thing"])
    assert {name for name in cond if name.startswith("seen")} == seen
    plain = {name: value for name, value in cond.items() if name not in seen}
    same = torch.allclose(family.encode(cond)["states"], family.encode(plain)["states"], atol=1e-5)
    assert same is (mask == "none")


def test_families_without_masks_refuse_them(tiny_base: Path) -> None:
    with pytest.raises(ModelFileError, match=r"E-MOD-107.*text_encoder_mask"):
        detect.look(Model(path=str(tiny_base), text_encoder_mask="t5"))


@pytest.mark.parametrize("number", [CLIP_L, CLIP_G, T5])
def test_a_silent_encoder_is_as_one_that_is_missing(
    encoders: dict[int, Any], cond: dict[str, torch.Tensor], number: int
) -> None:
    with torch.no_grad():
        said = sd3_text.encode(encoders, cond, WIDTHS)
        missing = sd3_text.encode({each: encoders[each] for each in encoders if each != number}, cond, WIDTHS)
    silent = torch.zeros(2, 3)
    silent[1, number - 1] = 1
    hushed = sd3_text.hushed(said, silent, WIDTHS)
    for name in ("states", "pooled"):
        assert torch.equal(hushed[name][0], said[name][0])
        assert torch.equal(hushed[name][1], missing[name][1])

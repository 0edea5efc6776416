"""Layers in few bits are the layers they were made of, as near as their bits allow."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from impasto import families
from impasto.config import RunConfig, base_key
from impasto.families import detect, parts, quantized
from impasto.families.config import Format, Model
from impasto.families.quantized import QuantizedConv2d, QuantizedLinear, hold, nf4_levels
from impasto.weights.merge import merge

CPU = torch.device("cpu")
ERRORS: dict[Format, float] = {"fp8": 0.028, "int8": 0.008, "nf4": 0.1}
"""Root mean square of the rounding of normal weights, over that of the weights."""

BYTES: dict[Format, float] = {"fp8": 1, "int8": 1, "nf4": 0.5 + 4 / 64}

LAYERS = {
    "linear": lambda: nn.Linear(96, 40),
    "without bias": lambda: nn.Linear(7, 5, bias=False),
    "conv 1x1": lambda: nn.Conv2d(12, 20, 1),
    "conv 3x3": lambda: nn.Conv2d(12, 20, 3, stride=2, padding=1),
    "grouped": lambda: nn.Conv2d(12, 20, 3, dilation=2, groups=2),
}
every_format = pytest.mark.parametrize("form", get_args(Format))
every_layer = pytest.mark.parametrize("kind", LAYERS)


def pair(kind: str, form: Format) -> tuple[nn.Module, nn.Module]:
    """A layer in few bits, and a plain one with the weight it stands for."""
    torch.manual_seed(0)
    plain = LAYERS[kind]().requires_grad_(False)
    packed = copy.deepcopy(plain)
    quantized.quantize([packed], form, CPU)
    quantized.round_to([plain], form)
    return packed, plain


def some(layer: nn.Module) -> torch.Tensor:
    shape = (2, 3, layer.in_features) if isinstance(layer, nn.Linear) else (2, layer.in_channels, 9, 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_the_levels_of_nf4_are_the_papers() -> None:
    printed = [-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
               0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0]  # fmt: skip
    assert nf4_levels() == pytest.approx(printed, abs=1e-6)


@every_format
def test_the_rounding_of_normal_weights_is_within_its_bound(form: Format) -> None:
    weight = torch.randn(64, 640, generator=torch.Generator().manual_seed(0))
    held = hold(weight, form)
    error = (held.weight(torch.float32) - weight).norm() / weight.norm()
    assert ERRORS[form] / 3 < error < ERRORS[form]
    stored = held.numbers.nbytes + held.scale.nbytes
    assert stored == pytest.approx(BYTES[form] * weight.numel(), rel=0.01)


@every_format
def test_every_output_has_a_scale_of_its_own(form: Format) -> None:
    weight = torch.randn(8, 128, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 3, 8)[:, None]
    errors = (hold(weight, form).weight(torch.float32) - weight).norm(dim=1) / weight.norm(dim=1)
    assert errors.max() < 1.5 * ERRORS[form]


@every_format
def test_zeros_stay_zero_and_what_fits_stays_exact(form: Format) -> None:
    assert torch.equal(hold(torch.zeros(3, 70), form).weight(torch.float32), torch.zeros(3, 70))
    signs = torch.tensor([[1.0, -1.0, 0.0] * 30])
    assert torch.equal(hold(signs, form).weight(torch.float32), signs)


@every_format
@every_layer
def test_forward_and_gradient_are_those_of_the_weight_it_stands_for(kind: str, form: Format) -> None:
    packed, plain = pair(kind, form)
    assert torch.equal(packed.weight, plain.weight)
    one, other = (some(plain).requires_grad_() for _ in range(2))
    y, z = packed(one), plain(other)
    y.square().sum().backward()
    z.square().sum().backward()
    torch.testing.assert_close(y, z)
    torch.testing.assert_close(one.grad, other.grad)
    assert not list(name for name, _ in packed.named_parameters() if name == "weight")


@every_format
@every_layer
def test_under_autocast_it_computes_as_a_plain_layer_does(kind: str, form: Format) -> None:
    packed, plain = pair(kind, form)
    with torch.autocast("cpu", torch.bfloat16):
        y, z = packed(some(plain)), plain(some(plain))
    assert y.dtype == z.dtype == torch.bfloat16
    assert torch.equal(y, z)


@every_format
def test_nothing_is_kept_for_the_backward_pass(form: Format) -> None:
    packed, plain = pair("linear", form)
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        packed(some(plain).requires_grad_())
    assert kept == []


def test_a_merge_into_few_bits_is_refused() -> None:
    packed, plain = pair("linear", "int8")
    tensors = {"lora_down.weight": torch.zeros(2, 96), "lora_up.weight": torch.zeros(40, 2)}
    merge(plain, tensors)
    with pytest.raises(AssertionError, match="few bits"):
        merge(packed, tensors)


@every_format
def test_a_base_keeps_what_is_small_and_what_rounding_hurts_most(tiny_base: Path, form: Format) -> None:
    model = Model(path=str(tiny_base), quantize=form, quantize_text_encoder="int8")
    held = parts.load(detect.look(model), model, dtype=torch.float32, device=CPU)
    packed = {name for name, each in held.unet.named_modules() if isinstance(each, QuantizedLinear | QuantizedConv2d)}
    whole = {
        name for name, each in held.unet.named_modules()
        if isinstance(each, nn.Linear | nn.Conv2d) and name not in packed
    }  # fmt: skip
    assert whole == {"conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"}
    assert all(each.dtype == torch.float32 for each in held.unet.parameters())
    assert sum(isinstance(each, QuantizedLinear) for each in held.text.modules()) == 2 * 6


def test_an_int8_base_takes_half_of_a_bf16_one(tiny_base: Path) -> None:
    def bytes_of(**how: str) -> int:
        model = Model.model_validate({"path": "pocket", **how})
        return parts.size(parts.load(detect.look(model), model, dtype=torch.bfloat16, device=CPU).unet)

    plain = bytes_of()
    assert bytes_of(quantize="int8") < 0.55 * plain
    assert bytes_of(quantize="fp8") < 0.55 * plain
    assert bytes_of(quantize="nf4") < 0.35 * plain


def test_the_plain_twin_has_the_same_numbers(tiny_base: Path) -> None:
    model = Model(path=str(tiny_base), quantize="nf4", quantize_text_encoder="fp8")
    card = detect.look(model)
    packed, plain = (parts.load(card, model, dtype=torch.float32, device=CPU, plain=each) for each in (False, True))
    for one, other in ((packed.unet, plain.unet), (packed.text, plain.text)):
        for name, module in other.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                assert torch.equal(one.get_submodule(name).weight, module.weight)


def test_runs_on_bases_held_otherwise_share_none() -> None:
    keys = {
        base_key(RunConfig.model_validate({"model": model}))
        for model in ({}, {"quantize": "int8"}, {"quantize": "nf4"}, {"quantize_text_encoder": "int8"},
                      {"text_encoder_precision": "bf16"}, {"vae_precision": "fp16"})
    }  # fmt: skip
    assert len(keys) == 6


def test_each_part_has_its_own_precision(tiny_base: Path) -> None:
    model = Model(path=str(tiny_base), text_encoder_precision="fp32", vae_precision="fp16")
    held = parts.load(detect.look(model), model, dtype=torch.bfloat16, device=CPU)
    found = [next(each.parameters()).dtype for each in (held.unet, held.text, held.vae)]
    assert found == [torch.bfloat16, torch.float32, torch.float16]


@pytest.mark.parametrize("words", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("denoiser", [torch.float32, torch.bfloat16])
def test_a_text_encoder_of_another_precision_than_the_denoiser_is_understood(
    tiny_base: Path, words: str, denoiser: torch.dtype
) -> None:
    model = Model.model_validate({"path": str(tiny_base), "text_encoder_precision": words})
    family = families.load(detect.look(model), model, device=CPU, dtype=denoiser)
    with torch.no_grad(), torch.autocast("cpu", denoiser, enabled=denoiser != torch.float32):
        cond = family.encode(family.tokenize(["a cat"]))
        answer = family.predict(torch.zeros(1, 4, 8, 8), torch.tensor([500]), cond)
    assert answer.isfinite().all()
    if words == "fp32":
        plain = Model(path=str(tiny_base))
        exact = families.load(detect.look(plain), plain, device=CPU, dtype=torch.float32)
        with torch.no_grad():
            assert torch.equal(exact.encode(exact.tokenize(["a cat"]))["states"], cond["states"])


def test_a_picture_encoder_that_overflows_is_asked_again_in_fp32(tiny_base: Path) -> None:
    model = Model(path=str(tiny_base), vae_precision="fp16")
    family = families.load(detect.look(model), model, device=CPU, dtype=torch.float32)
    vae = family.lending.vae.module
    with torch.no_grad():
        vae.encoder.conv_in.weight.mul_(6e4)
        vae.encoder.mid_block.attentions[0].to_out[0].weight.mul_(1e3)
    with family.vae() as encoder:
        calm, _ = encoder.encode(torch.zeros(1, 3, 16, 16))
        before = encoder.rescued
        mean, std = encoder.encode(torch.ones(1, 3, 16, 16))
        assert encoder.rescued == before + 1
    assert calm.isfinite().all()
    assert mean.isfinite().all()
    assert std.isfinite().all()
    assert vae.dtype == torch.float16

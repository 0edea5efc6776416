"""Adapters of Stable Diffusion 3 in diffusers' own loader: the same picture as in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from impasto import adapters
from impasto.adapters.adapter import Adapter
from impasto.adapters.config import Lora
from impasto.adapters.riders import Riders, Route
from impasto.adapters.targets import Target
from impasto.families import flux_names, flux_shape, mmdit, sd3_names
from impasto.families.single_file import UNET
from impasto.families.targets import flux_targets, sd3_targets
from impasto.families.tiny import byte_tokenizer
from impasto.weights.diffusers_layout import cut, written
from impasto.weights.layouts import find
from impasto.weights.merge import by_layer, merge
from tests.families.test_mmdit import denoiser
from tests.families.test_sd3_text import clip
from tests.weights.listings import listing

MEASURES = {"qk_norm": "rms_norm", "dual_attention_layers": (0, 1)}


def pipeline() -> Any:
    """Stable Diffusion 3.5 in small, without T5, always the same."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8), latent_channels=16, norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, use_quant_conv=False, use_post_quant_conv=False,
        scaling_factor=1.5305, shift_factor=0.0609, sample_size=16,
    )  # fmt: skip
    encoders = clip(12), clip(12)
    found = StableDiffusion3Pipeline(
        transformer=denoiser(**MEASURES), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae.eval(),
        text_encoder=encoders[0], text_encoder_2=encoders[1], text_encoder_3=None, tokenizer=byte_tokenizer(),
        tokenizer_2=byte_tokenizer(pad="!"), tokenizer_3=None,
    )  # fmt: skip
    found.set_progress_bar_config(disable=True)
    return found


@torch.no_grad()
def picture(drawing: Any) -> Tensor:
    return torch.as_tensor(
        drawing(
            "a red thing", height=16, width=16, num_inference_steps=3, guidance_scale=3.0, output_type="pt",
            generator=torch.Generator().manual_seed(1), max_sequence_length=16,
        ).images
    )  # fmt: skip


def trained(targets: list[Target], config: Lora) -> Adapter:
    """An adapter as after a training: no factor is zero."""
    adapter = adapters.build(config, targets, seed=0)
    generator = torch.Generator().manual_seed(2)
    for parameter in adapter.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return adapter


def layers(tensors: dict[str, Tensor], targets: list[Target]) -> list[tuple[Target, dict[str, Tensor]]]:
    places = {target.name: target for target in targets}
    held = {name: {kind: each.detach() for kind, each in two.items()} for name, two in by_layer(tensors).items()}
    return [(places[name], each) for name, each in held.items()]


def joined(drawing: Any) -> list[Target]:
    """Give a pipeline's denoiser the published shape, and list its layers."""
    mmdit.join(drawing.transformer)
    return sd3_targets(drawing.transformer, {1: drawing.text_encoder, 2: drawing.text_encoder_2})


@pytest.mark.parametrize(("opened", "fold"), [("attention-mlp", False), ("full", True)])
def test_diffusers_loads_what_was_trained_and_draws_the_same_picture(tmp_path: Path, opened: str, fold: bool) -> None:
    ours, theirs, merged = pipeline(), pipeline(), pipeline()
    plain = picture(ours)
    targets = joined(ours)
    adapter = trained(targets, Lora.model_validate({"rank": 2, "alpha": 1.0, "targets": {"layers": opened}}))
    riders = Riders(targets)
    riders.mount(adapter)
    with riders.routed([Route(adapter, 0, 1)]):
        drawn = picture(ours)
    assert (drawn - plain).abs().mean() > 4 / 255
    assert not riders.silent()

    found, about = written(layers(adapter.tensors(), targets), "transformer", fold=fold)
    save_file({name: value.clone() for name, value in found.items()}, tmp_path / "x.safetensors", about)
    theirs.load_lora_weights(str(tmp_path), weight_name="x.safetensors", local_files_only=True)
    assert (picture(theirs) - drawn).abs().mean() < 1 / 255

    places = {target.name: target for target in joined(merged)}
    for name, held in by_layer(adapter.tensors()).items():  # the file in Kohya's layout, by our own reader
        merge(places[name].layer, held)
    assert (picture(merged) - drawn).abs().mean() < 1 / 255


def test_of_kohyas_layout_diffusers_takes_nothing(tmp_path: Path) -> None:
    """If this fails one day, diffusers has learnt it, and files can be proven there as they are."""
    drawing = pipeline()
    adapter = trained(joined(pipeline()), Lora(rank=2))
    held = {name: value.detach().contiguous() for name, value in adapter.tensors().items()}
    save_file(held, tmp_path / "x.safetensors")
    plain = picture(drawing)
    drawing.load_lora_weights(str(tmp_path), weight_name="x.safetensors", local_files_only=True)
    assert torch.equal(picture(drawing), plain)


def test_there_and_back_is_the_same_to_the_bit() -> None:
    targets = joined(pipeline())
    adapter = trained(targets, Lora.model_validate({"rank": 2, "alpha": 1.5, "targets": {"layers": "full"}}))
    before = layers(adapter.tensors(), targets)
    tensors, about = written(before, "transformer", fold=False)
    after = find(Path("x"), tensors, about, targets).all(tensors.__getitem__)
    assert after.keys() == {target.name for target, _ in before}
    for target, held in before:
        assert after[target.name].keys() == held.keys()
        assert all(torch.equal(after[target.name][kind], value) for kind, value in held.items())


PUBLISHED = ("flux1-dev", "sd3-medium", "sd35-medium", "sd35-large")


@pytest.mark.parametrize("version", PUBLISHED)
def test_every_layer_of_a_published_denoiser_has_diffusers_own_name_and_shape(version: str) -> None:
    from diffusers import FluxTransformer2DModel, SD3Transformer2DModel

    original = listing(f"{version}.original")
    with torch.device("meta"):
        if version == "flux1-dev":
            plain = FluxTransformer2DModel.from_config(flux_names.measures(original))
            targets = flux_targets(flux_shape.join(plain), {})
        else:
            plain = SD3Transformer2DModel.from_config(sd3_names.measures(original, UNET).config())
            targets = sd3_targets(mmdit.join(plain), {})
        found = {}
        for target in targets:
            rows, *inside = target.layer.weight.shape
            held = {"lora_down.weight": torch.empty(1, *inside), "lora_up.weight": torch.empty(rows, 1)}
            for module, tensors, _ in cut(target, held, "transformer", fold=True):
                name, down, up = module.down.removesuffix(".lora_A.weight"), tensors[module.down], tensors[module.up]
                assert name not in found
                found[name] = (len(up), *down.shape[1:])
    wanted = {
        f"transformer.{name.removesuffix('.weight')}": shape
        for name, shape in listing(f"{version}.diffusers.transformer").items()
        if name.endswith(".weight") and len(shape) > 1
    }
    assert found == wanted

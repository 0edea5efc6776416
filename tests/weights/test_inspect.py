"""A file is told for what it is, by its names and shapes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from impasto import adapters
from impasto.adapters.config import Full, Loha, Lokr, Lora
from impasto.adapters.targets import Target
from impasto.errors import ModelFileError
from impasto.weights import file, recognise
from impasto.weights.inspect import inspect
from tests.weights.listings import listing

ADAPTERS = [
    ("lora.sd15.kohya", ["LoRA"], "sd1", {"text_encoder": 72, "unet": 192}),
    ("lora.sd15.kohya.conv4", ["LoRA"], "sd1", {"text_encoder": 72, "unet": 278}),
    ("lora.sd21.kohya", ["LoRA"], "sd2", {"text_encoder": 138, "unet": 192}),
    ("lora.sdxl.kohya", ["LoRA"], "sdxl", {"text_encoder": 72, "text_encoder_2": 192, "unet": 722}),
    ("lora.sd3m.kohya.unet-only", ["LoRA"], "sd3", {"unet": 237}),
    ("lora.flux.kohya.te-clip", ["LoRA"], "flux", {"text_encoder": 72, "unet": 304}),
    ("lora.sd15.oft", ["OFT"], None, {"unet": 128}),
    ("lyco.sd15.loha", ["LoHa"], "sd1", {"text_encoder": 72, "unet": 282}),
    ("lyco.sd15.lokr", ["LoKr"], "sd1", {"text_encoder": 72, "unet": 282}),
    ("lyco.sd15.glora", ["GLoRA"], "sd1", {"text_encoder": 72, "unet": 282}),
    ("lyco.sd15.boft.dim16", ["BOFT"], "sd1", {"text_encoder": 72, "unet": 282}),
    ("lyco.sd15.diag-oft", ["Diag-OFT"], "sd1", {"text_encoder": 72, "unet": 282}),
    ("lyco.sd15.full", ["full difference"], "sd1", {"text_encoder": 72, "unet": 282}),
    ("lyco.sd15.locon.dora", ["DoRA", "LoRA"], "sd1", {"text_encoder": 72, "unet": 282}),
    ("lyco.sd15.locon.tucker", ["LoRA", "Tucker"], "sd1", {"text_encoder": 72, "unet": 282}),
    ("lyco.sd15.ia3.constructed", ["iA3"], None, {"text_encoder": 36, "unet": 80}),
]

MODELS = [
    ("sd15.original.weights-only", "full model in one file", "sd1"),
    ("sdxl-base.diffusers.unet", "denoiser (U-Net)", "sdxl"),
    ("flux1-dev.original", "denoiser (transformer)", "flux"),
    ("vae-kl-f8.original", "VAE (Stable Diffusion 1.x, 2.x, XL)", None),
    ("flux-ae.original", "VAE (Stable Diffusion 3, FLUX.1)", None),
    ("clip-l.hf", "text encoder (CLIP)", None),
    ("t5xxl.hf", "text encoder (T5)", None),
]


@pytest.mark.parametrize(("name", "kinds", "family", "parts"), ADAPTERS)
def test_published_adapters_are_recognised(name: str, kinds: list[str], family: str, parts: dict[str, int]) -> None:
    found = recognise.adapter(listing(name))
    assert found is not None
    assert (found.kinds, found.layout, found.unknown) == (kinds, "kohya", [])
    assert recognise.adapter_family(found)[0] == family
    assert {part: len(names) for part, names in found.parts.items()} == parts


@pytest.mark.parametrize(("name", "what", "family"), MODELS)
def test_published_models_are_recognised(name: str, what: str, family: str | None) -> None:
    shapes = listing(name)
    assert recognise.adapter(shapes) is None
    assert recognise.model(shapes) == (what, family)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cat.safetensors"


UNET = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
TEXT = "lora_te_text_model_encoder_layers_0_mlp_fc1"


def lora() -> dict[str, Tensor]:
    """Two layers of an SD 1.x LoRA, with different ranks and alphas."""
    found = {f"{UNET}.alpha": torch.tensor(2.0), f"{TEXT}.alpha": torch.tensor(1.0)}
    found |= {f"{UNET}.lora_down.weight": torch.ones(4, 768), f"{UNET}.lora_up.weight": torch.ones(320, 4)}
    return found | {f"{TEXT}.lora_down.weight": torch.ones(8, 768), f"{TEXT}.lora_up.weight": torch.zeros(3072, 8)}


def test_an_inspection_tells_what_a_user_asks(path: Path) -> None:
    file.write(path, lora(), {"ss_output_name": "cat", "ss_steps": "300"}, "bf16")
    found = inspect(path, norms=True)
    assert (found.what, found.layout, found.family) == ("LoRA", "Kohya names", "sd1")
    assert found.parts == {"text_encoder": 1, "unet": 1}
    assert found.ranks == {4: 1, 8: 1}
    assert found.alphas == {1.0: 1, 2.0: 1}
    assert found.types == {"BF16": 6}
    assert found.norms[UNET] == pytest.approx(2 / 4 * 4 * (320 * 768) ** 0.5)
    assert found.norms[TEXT] == 0
    lines = found.lines()
    assert lines[0] == "cat.safetensors: LoRA, Stable Diffusion 1.x, Kohya names"
    assert "steps: 300" in lines
    assert "rank: 4 (1 times), 8 (1 times)" in lines
    assert not found.remarks


def test_what_is_odd_is_remarked(path: Path) -> None:
    odd = lora()
    del odd[f"{UNET}.alpha"], odd[f"{TEXT}.lora_up.weight"]
    file.write(path, odd | {"something.else": torch.ones(1)}, {}, "fp32")
    said = "\n".join(inspect(path).lines())
    assert "odd: 1 layers without alpha" in said
    assert "odd: 1 layers with only one of lora_down and lora_up" in said
    assert "odd: 1 tensors that no adapter has, among them 'something.else'" in said


def test_the_metadata_tells_the_family_of_an_unusual_base(path: Path) -> None:
    small = {f"{UNET}.lora_down.weight": torch.ones(4, 64), f"{UNET}.lora_up.weight": torch.ones(32, 4)}
    file.write(path, small, {}, "fp32")
    assert inspect(path).family is None
    file.write(path, small, {"ss_base_model_version": "sd_v1"}, "fp32")
    assert inspect(path).family == "sd1"
    assert any("width 64" in remark for remark in inspect(path).remarks)


@pytest.mark.parametrize(
    ("layer", "layout"),
    [
        ("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k", "diffusers names"),
        ("base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k", "PEFT names"),
    ],
)
def test_other_layouts_are_told(path: Path, layer: str, layout: str) -> None:
    tensors = {f"{layer}.lora_A.weight": torch.ones(4, 768), f"{layer}.lora_B.weight": torch.ones(320, 4)}
    file.write(path, tensors | {f"{layer}.lora_B.bias": torch.ones(1)}, {}, "fp32")
    found = inspect(path)
    assert (found.what, found.layout, found.family, found.ranks) == ("LoRA", layout, "sd1", {4: 1})


def test_strange_text_does_not_reach_the_terminal(path: Path) -> None:
    file.write(path, lora(), {"modelspec.title": "\x1b[2Jcat\nodd: nothing"}, "fp32")
    assert all(line.isprintable() for line in inspect(path).lines())


def test_a_file_that_is_no_safetensors_says_so(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ModelFileError, match="pickle files are not opened"):
        inspect(path)


def test_looking_needs_no_torch() -> None:
    code = "import sys, impasto.weights.inspect; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_norm_of_what_each_kind_adds_is_that_of_its_weight(tmp_path: Path) -> None:
    base = torch.nn.Linear(12, 40, bias=False).requires_grad_(False)
    target = Target(UNET, "attn2.to_k", "unet", "attention", base, default=True)
    kinds = (Lora(rank=2), Loha(rank=2), Lokr(rank=2), Lokr(rank=1, decompose_both=True, factor=4), Full())
    for number, config in enumerate(kinds):
        adapter = adapters.build(config, [target], seed=0)
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        ((_, layer),) = adapter.items()
        file.write(tmp_path / f"{number}.safetensors", adapter.tensors(), {}, "fp32")
        found = inspect(tmp_path / f"{number}.safetensors", norms=True)
        assert found.norms[UNET] == pytest.approx(float((layer.weight(base) - base.weight).detach().norm()), rel=1e-4)


def test_a_kind_that_turns_or_scales_the_base_has_no_norm_of_its_own(path: Path) -> None:
    file.write(path, {f"{UNET}.oft_blocks": torch.zeros(80, 4, 4), f"{UNET}.alpha": torch.tensor(0.0)}, {}, "fp32")
    assert (inspect(path, norms=True).what, inspect(path, norms=True).norms) == ("Diag-OFT", {})

"""A written adapter is opened by diffusers on a fresh base: all of it or a loud no."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from impasto import adapters
from impasto.adapters.adapter import Adapter
from impasto.adapters.config import Adapter as Config
from impasto.adapters.config import Boft, DyLora, Full, Glora, Ia3, Loha, Lokr, Lora, LoraFa, Oft
from impasto.adapters.riders import Riders, Route
from impasto.errors import ModelFileError
from impasto.families import detect
from impasto.families.config import Model
from impasto.families.sd import Modules
from impasto.families.targets import sd_targets
from impasto.weights import file
from impasto.weights.proof import Prover

CPU, FP32 = torch.device("cpu"), torch.float32


@torch.no_grad()
def scene(modules: Modules) -> Tensor:
    """A picture from one step of the denoiser."""
    for part in (modules.unet, modules.text, modules.vae):
        part.eval()
    dice = torch.Generator().manual_seed(0)
    states = modules.text(torch.randint(0, 200, (1, 77), generator=dice)).last_hidden_state
    latents = torch.randn(1, 4, 8, 8, generator=dice)
    noise = modules.unet(latents, torch.tensor([500]), encoder_hidden_states=states).sample
    pixels: Tensor = modules.vae.decode(noise.float()).sample
    return pixels.sigmoid()


@dataclass
class Trained:
    """What a training leaves behind."""

    adapter: Adapter
    reference: Tensor

    def tensors(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.adapter.tensors().items()}

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.adapter.items()]


@pytest.fixture
def trained(tiny_base: Path) -> Trained:
    return train(tiny_base, Lora(rank=2, alpha=1, conv_rank=2, conv_alpha=3))


@torch.no_grad()
def train(folder: Path, config: Config) -> Trained:
    """An adapter with random weights, and the picture it draws the way training does."""
    modules = Modules.load(detect.look(Model(path=str(folder))), FP32, CPU)
    targets = sd_targets(modules.unet, modules.text)
    adapter = adapters.build(config, targets, seed=0)
    dice = torch.Generator().manual_seed(1)
    for weight in adapter.parameters():
        weight.copy_(torch.randn(weight.shape, generator=dice) * 0.3)
    riders = Riders(targets)
    riders.mount(adapter)
    with riders.routed([Route(adapter, 0, 1)]):
        return Trained(adapter, scene(modules))


@pytest.fixture
def prover(tiny_base: Path) -> Prover:
    return Prover(detect.look(Model(path=str(tiny_base))), device=CPU, dtype=FP32)


def prove(prover: Prover, trained: Trained, path: Path, tensors: dict[str, Tensor]) -> float:
    file.write(path, tensors, {}, "fp32")
    proof = prover.prove(path, names=trained.names, scene=scene, reference=trained.reference)
    assert proof.matched == proof.expected == len(trained.names)
    return proof.difference


def test_every_layer_is_found_and_the_picture_is_the_same(trained: Trained, prover: Prover, tmp_path: Path) -> None:
    assert prove(prover, trained, tmp_path / "a.safetensors", trained.tensors()) < 1e-5


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_short_precisions_are_proven_too(trained: Trained, prover: Prover, tmp_path: Path, precision: str) -> None:
    file.write(tmp_path / "a.safetensors", trained.tensors(), {}, precision)  # type: ignore[arg-type]
    proof = prover.prove(tmp_path / "a.safetensors", names=trained.names, scene=scene, reference=trained.reference)
    assert proof.difference < 1 / 255


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_one_part_alone_is_proven(tiny_base: Path, prover: Prover, tmp_path: Path, part: str) -> None:
    config = Lora.model_validate({"rank": 2, "targets": {"unet": part == "unet", "text_encoder": part != "unet"}})
    trained = train(tiny_base, config)
    assert prove(prover, trained, tmp_path / "a.safetensors", trained.tensors()) < 1e-5


def test_one_base_serves_many_proofs(trained: Trained, prover: Prover, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        assert prove(prover, trained, tmp_path / f"{name}.safetensors", trained.tensors()) < 1e-5
        base = prover._base
        assert base is not None
    prove(prover, trained, tmp_path / "d.safetensors", trained.tensors())
    assert prover._base is base


def test_a_base_that_was_written_to_is_read_afresh(trained: Trained, prover: Prover, tmp_path: Path) -> None:
    def spoiling(modules: Modules) -> Tensor:
        picture = scene(modules)
        with torch.no_grad():
            modules.unet.mid_block.attentions[0].proj_in.base_layer.weight.mul_(2)
        return picture

    path = tmp_path / "a.safetensors"
    file.write(path, trained.tensors(), {}, "fp32")
    prover.prove(path, names=trained.names, scene=spoiling, reference=trained.reference)
    assert prover._base is None
    assert prove(prover, trained, path, trained.tensors()) < 1e-5


def refused(prover: Prover, trained: Trained, path: Path, tensors: dict[str, Tensor]) -> str:
    with pytest.raises(ModelFileError) as caught:
        prove(prover, trained, path, tensors)
    (problem,) = caught.value.problems
    return f"{problem.code} {problem.what}"


def test_a_missing_layer_is_named(trained: Trained, prover: Prover, tmp_path: Path) -> None:
    lost = trained.names[5]
    tensors = {name: value for name, value in trained.tensors().items() if not name.startswith(f"{lost}.")}
    said = refused(prover, trained, tmp_path / "a.safetensors", tensors)
    assert said.startswith("E-MOD-031")
    assert f"{len(trained.names) - 1} of {len(trained.names)} layers" in said
    assert f"{lost} is not in the file" in said


def test_a_layer_under_a_wrong_name_is_named(trained: Trained, prover: Prover, tmp_path: Path) -> None:
    flat = "lora_te_encoder_layers_0_mlp_fc1"  # what one gets from transformers' own paths
    tensors = {
        name.replace("lora_te_text_model_encoder_layers_0_mlp_fc1", flat): value
        for name, value in trained.tensors().items()
    }
    said = refused(prover, trained, tmp_path / "a.safetensors", tensors)
    assert said.startswith(("E-MOD-030", "E-MOD-031"))


def test_a_wrong_alpha_draws_another_picture(trained: Trained, prover: Prover, tmp_path: Path) -> None:
    tensors = {name: value * 4 if name.endswith("alpha") else value for name, value in trained.tensors().items()}
    assert refused(prover, trained, tmp_path / "a.safetensors", tensors).startswith("E-MOD-032")


def test_an_alpha_that_diffusers_does_not_honour_is_named(trained: Trained, prover: Prover, tmp_path: Path) -> None:
    tensors = trained.tensors()
    odd = "lora_te_text_model_encoder_layers_1_mlp_fc1"
    tensors[f"{odd}.alpha"] = torch.tensor(2.0)
    said = refused(prover, trained, tmp_path / "a.safetensors", tensors)
    assert said.startswith("E-MOD-031")
    assert "is scaled by" in said


def test_a_picture_that_is_not_finite_is_refused(trained: Trained, prover: Prover, tmp_path: Path) -> None:
    trained.reference = torch.full_like(trained.reference, float("nan"))
    assert refused(prover, trained, tmp_path / "a.safetensors", trained.tensors()).startswith("E-MOD-032")


def test_it_is_silent(trained: Trained, prover: Prover, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prove(prover, trained, tmp_path / "a.safetensors", trained.tensors())
    assert capfd.readouterr() == ("", "")


KINDS: dict[str, tuple[Config, str]] = {
    "lora-fa": (LoraFa(rank=2, conv_rank=2), "diffusers"),
    "dylora": (DyLora(rank=2), "diffusers"),
    "rank-stabilized": (Lora(rank=4, rank_stabilized=True), "diffusers"),
    "dora": (Lora(rank=2, conv_rank=2, decompose=True), "impasto"),
    "loha": (Loha(rank=2), "impasto"),
    "lokr": (Lokr(rank=2, conv_rank=2, decompose=True), "impasto"),
    "glora": (Glora(rank=2, conv_rank=2), "impasto"),
    "ia3": (Ia3(), "impasto"),
    "full": (Full(conv=True), "impasto"),
    "oft": (Oft(conv=True), "impasto"),
    "boft": (Boft(rescaled=True), "impasto"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_proven_and_says_by_whom(tiny_base: Path, prover: Prover, tmp_path: Path, kind: str) -> None:
    config, reader = KINDS[kind]
    trained = train(tiny_base, config)
    file.write(tmp_path / "a.safetensors", trained.tensors(), {}, "fp32")
    proof = prover.prove(tmp_path / "a.safetensors", names=trained.names, scene=scene, reference=trained.reference)
    assert (proof.matched, proof.reader) == (len(trained.names), reader)
    assert proof.difference < 1e-4


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_learned_lengths_survive_short_precisions(
    tiny_base: Path, prover: Prover, tmp_path: Path, precision: str
) -> None:
    trained = train(tiny_base, Lora(rank=2, decompose=True))
    file.write(tmp_path / "a.safetensors", trained.tensors(), {}, precision)  # type: ignore[arg-type]
    stored, _ = file.load(tmp_path / "a.safetensors")
    assert all(value.dtype == torch.float32 for name, value in stored.items() if name.endswith(".dora_scale"))
    prover.prove(tmp_path / "a.safetensors", names=trained.names, scene=scene, reference=trained.reference)


def test_what_is_wrong_with_another_kind_is_named(tiny_base: Path, prover: Prover, tmp_path: Path) -> None:
    trained, path = train(tiny_base, Loha(rank=2)), tmp_path / "a.safetensors"
    lost, bent = trained.names[3], trained.names[4]
    tensors = {name: value for name, value in trained.tensors().items() if not name.startswith(f"{lost}.")}
    tensors[f"{bent}.hada_w1_b"] = torch.zeros(2, 3)
    said = refused(prover, trained, path, tensors)
    assert said.startswith("E-MOD-031")
    assert f"{len(trained.names) - 2} of {len(trained.names)} layers match in impasto" in said
    assert f"{lost} is not in the file" in said
    assert f"{bent} cannot be read (hada_w1_b is (2, 3)" in said
    tensors = {name: value * 3 if name.endswith("alpha") else value for name, value in trained.tensors().items()}
    assert refused(prover, trained, path, tensors).startswith("E-MOD-032")

"""Everything that is wrong with an adapter file is told before it is used, each with its fix."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from impasto.__main__ import main
from impasto.adapters.config import Adapter as Config
from impasto.adapters.config import Boft, Full, Glora, Ia3, Loha, Lokr, Lora, Oft
from impasto.families import tiny
from impasto.families.family import Family
from impasto.weights import file
from impasto.weights.convert import convert
from impasto.weights.verify import Verdict, verify
from tests.weights.adapters import saved

KINDS: list[Config] = [
    Lora(rank=2, conv_rank=2), Lora(rank=2, decompose=True), Lora(rank=2, train_norm=True), Loha(rank=2), Lokr(rank=2),
    Glora(rank=2), Ia3(), Full(), Oft(), Boft(),
]  # fmt: skip


@pytest.fixture
def good(tmp_path: Path, tiny_family: Family) -> Path:
    return saved(tmp_path / "good.safetensors", Lora(rank=2, alpha=1.5), tiny_family.targets())


def spoilt(good: Path, **changed: Tensor | None) -> Verdict:
    """The file with a tensor of its first layer changed or left out."""
    tensors, _ = file.load(good)
    first = next(iter(tensors)).partition(".")[0]
    for kind, value in changed.items():
        name = f"{first}.{kind}" if kind == "alpha" else f"{first}.{kind}.weight"
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, good.with_name("spoilt.safetensors"))
    return verify(good.with_name("spoilt.safetensors"))


def codes(verdict: Verdict) -> list[str]:
    assert all(problem.fix for problem in verdict.problems)
    return [problem.code for problem in verdict.problems]


@pytest.mark.parametrize("config", KINDS, ids=lambda config: type(config).__name__)
def test_a_good_file_of_every_kind_loads(tmp_path: Path, tiny_base: Path, tiny_family: Family, config: Config) -> None:
    path = saved(tmp_path / "a.safetensors", config, tiny_family.targets())
    verdict = verify(path, str(tiny_base))
    assert codes(verdict) == []
    assert verdict.notes == []


def test_each_fault_is_told_by_its_code(good: Path) -> None:
    tensors, _ = file.load(good)
    first = next(iter(tensors)).partition(".")[0]
    up, down = tensors[f"{first}.lora_up.weight"], tensors[f"{first}.lora_down.weight"]
    assert codes(spoilt(good, lora_up=up * float("nan"))) == ["E-MOD-010"]
    assert codes(spoilt(good, lora_up=None)) == ["E-MOD-041"]
    assert codes(spoilt(good, lora_down=down[:1])) == ["E-MOD-041"]
    assert codes(spoilt(good, lora_down=down.to(torch.float8_e4m3fn))) == ["E-MOD-060"]
    assert codes(spoilt(good, alpha=torch.tensor(0.0))) == ["E-MOD-061"]
    assert codes(spoilt(good, alpha=torch.tensor([1.0, 2.0]))) == ["E-MOD-061"]
    assert spoilt(good, alpha=torch.tensor(64.0)).notes == [
        f"alpha / rank of 1 layers is above 16, first 32 of {first}"
    ]
    assert "tell no alpha" in spoilt(good, alpha=None).notes[0]


def test_several_faults_are_told_at_once(good: Path) -> None:
    tensors, _ = file.load(good)
    first = next(iter(tensors)).partition(".")[0]
    bad = tensors[f"{first}.lora_up.weight"] * float("inf")
    assert codes(spoilt(good, lora_up=bad, alpha=torch.tensor(0.0))) == ["E-MOD-010", "E-MOD-061"]


def test_a_file_that_was_never_trained_adds_nothing(good: Path) -> None:
    tensors, _ = file.load(good)
    empty = {name: value * ("lora_up" not in name) for name, value in tensors.items()}
    save_file(empty, good.with_name("empty.safetensors"))
    (note,) = verify(good.with_name("empty.safetensors")).notes
    assert "adds nothing" in note


def test_the_base_is_held_against_it_in_any_layout(tmp_path: Path, good: Path, tiny_base: Path) -> None:
    other = tmp_path / "other.safetensors"
    convert(good, other, "diffusers", base=str(tiny_base))
    assert codes(verify(other, str(tiny_base))) == []
    wide, _ = file.load(good)
    name = next(name for name in wide if name.endswith("attn2_to_k.lora_down.weight"))
    wide[name] = torch.ones(2, 768)
    save_file(wide, tmp_path / "wide.safetensors")
    assert codes(verify(tmp_path / "wide.safetensors")) == []
    (problem,) = verify(tmp_path / "wide.safetensors", str(tiny_base)).problems
    assert problem.code == "E-MOD-041"
    assert "768" in problem.what


def test_another_familys_file_is_told_by_its_family(tmp_path: Path, good: Path) -> None:
    flux = tiny.flux(tmp_path / "flux")
    tensors = {"lora_unet_double_blocks_9_img_mlp_0.lora_down.weight": torch.ones(2, 32),
               "lora_unet_double_blocks_9_img_mlp_0.lora_up.weight": torch.ones(128, 2)}  # fmt: skip
    save_file(tensors, tmp_path / "a.safetensors")
    (problem,) = verify(tmp_path / "a.safetensors", str(flux)).problems
    assert problem.code == "E-MOD-040"
    assert "double_blocks_9" in problem.what
    xl = tmp_path / "xl.safetensors"
    save_file(
        {f"lora_unet_input_blocks_4_1_proj_in.lora_{each}.weight": torch.ones(2, 2) for each in ("up", "down")}, xl
    )
    (problem,) = verify(xl, str(flux)).problems
    assert problem.what == "is for Stable Diffusion XL, and the base is FLUX.1"
    (problem,) = verify(good, str(flux)).problems
    assert problem.code == "E-MOD-040"


def test_the_command_tells_it_and_its_exit_code_says_it(
    good: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "verify", str(good), "--base", str(tiny_base)]) == 0
    assert "it loads on" in capsys.readouterr().out
    spoilt(good, alpha=torch.tensor(0.0))
    assert main(["weights", "verify", str(good.with_name("spoilt.safetensors"))]) == 7
    assert "E-MOD-061" in capsys.readouterr().err

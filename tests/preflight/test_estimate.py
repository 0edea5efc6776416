"""The estimate of memory against what was measured of bases of full size, and its phases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from impasto import config
from impasto.families import detect, full_size
from impasto.families.card import Name
from impasto.preflight import activations, estimate

MEASURED = json.loads((Path(__file__).parents[2] / "docs" / "explanation" / "memory.json").read_text("utf-8"))
BASES: dict[str, tuple[Name, int, list[str]]] = {
    "Stable Diffusion 1.5": ("sd1", 256, []),
    "Stable Diffusion XL": ("sdxl", 512, ["adapter.targets.text_encoder=false"]),
}
TRIALS = {
    "bf16": ["model.precision=bf16"],
    "checkpointing": ["model.precision=bf16", "model.gradient_checkpointing=true"],
    "proof": ["model.precision=bf16", "model.gradient_checkpointing=true", "save.proof=final"],
    "int8": ["model.precision=bf16", "model.gradient_checkpointing=true", "model.quantize=int8"],
    "fp8": ["model.precision=bf16", "model.gradient_checkpointing=true", "model.quantize=fp8"],
    "fp32": ["model.precision=fp32"],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of full size with a head and nothing behind it."""
    folder = tmp_path_factory.mktemp("hollow")
    names: tuple[Name, ...] = ("sd1", "sdxl")
    return {each: full_size.hollow(each, folder / f"{each}.safetensors", dtype=torch.bfloat16) for each in names}


def _phases(file: Path, side: int, laid: list[str], batch: int = 1) -> tuple[estimate.Phases, Any]:
    usual = {"device.name": "cpu", "save.proof": "off"} | dict(each.split("=", 1) for each in laid)
    made = config.load(None, [f"model.path={file}", *(f"{name}={value}" for name, value in usual.items())])
    card = detect.look(made.model)
    sizes: dict[str, Any] = {"area": side * side, "batch": batch, "numbers": estimate.trained_numbers(made, card)}
    return estimate.phases(made, card, **sizes), estimate.memory(made, card, **sizes)


def test_hollow_files_take_no_room_and_say_all_that_full_ones_do(files: dict[str, Path], tmp_path: Path) -> None:
    assert files["sdxl"].stat().st_size > 6.9e9
    assert files["sdxl"].stat().st_blocks * 512 < 2e6


@pytest.mark.parametrize("each", [each for each in MEASURED if each["trial"] in TRIALS],
                         ids=lambda each: f"{each['base']} {each['trial']}")  # fmt: skip
def test_estimates_are_near_what_was_measured_of_bases_of_full_size(each: Any, files: dict[str, Path]) -> None:
    family, side, own = BASES[each["base"]]
    found, told = _phases(files[family], side, [*own, *TRIALS[each["trial"]]])
    assert -0.10 <= found.peak / (each["peak"] * 1e9) - 1 <= 0.25
    assert told.basis == "calibrated"
    assert told.low <= each["peak"] * 1e9 <= told.high


@pytest.mark.parametrize(
    ("laid", "side", "batch"),
    [(["model.quantize=nf4"], 512, 1), (["device.name=cuda"], 512, 1), (["model.precision=fp16"], 512, 1),
     ([], 1024, 1), ([], 512, 4), (["adapter.kind=lokr"], 512, 1)],
)  # fmt: skip
def test_what_was_never_measured_says_so(laid: list[str], side: int, batch: int, files: dict[str, Path]) -> None:
    _, told = _phases(files["sd1"], side, ["model.precision=bf16", *laid], batch)
    assert told.basis == "uncalibrated"


def test_drawing_is_a_phase_of_its_own(files: dict[str, Path]) -> None:
    without, _ = _phases(files["sd1"], 256, ["model.precision=bf16"])
    proven, _ = _phases(files["sd1"], 256, ["model.precision=bf16", "save.proof=every"])
    large, _ = _phases(
        files["sd1"], 256, ["model.precision=bf16", "preview.prompts.0.text=a cat", "preview.prompts.0.width=1024"]
    )
    assert without.draw == 0 < proven.draw < large.draw
    assert (without.load, without.prepare, without.train) == (proven.load, proven.prepare, proven.train)


@pytest.mark.parametrize("laid", ["data.cache=false", "data.captions.shuffle=true"])
def test_encoders_stay_where_they_are_asked_at_each_visit(laid: str, files: dict[str, Path]) -> None:
    rest = ["model.precision=bf16", "adapter.targets.text_encoder=false", "data.sets.0.path=pictures"]
    gone, _ = _phases(files["sd1"], 256, rest)
    stay, _ = _phases(files["sd1"], 256, [*rest, laid])
    assert stay.train - gone.train > 123e6 * 2 * 0.99
    assert stay.prepare == gone.prepare


@pytest.mark.parametrize(
    ("name", "places"),
    [("down_blocks.1.resnets.0.conv1.weight", 64), ("up_blocks.0.attentions.0.proj_in.weight", 4),
     ("mid_block.resnets.0.conv1.weight", 4), ("conv_in.weight", 256),
     ("model.diffusion_model.input_blocks.4.0.in_layers.2.weight", 64),
     ("model.diffusion_model.output_blocks.2.0.in_layers.2.weight", 4),
     ("model.diffusion_model.middle_block.0.in_layers.2.weight", 4),
     ("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", 77),
     ("down_blocks.0.resnets.0.time_emb_proj.weight", 1)],
)  # fmt: skip
def test_layers_compute_at_the_places_of_their_stage(name: str, places: float) -> None:
    sizes = {"block_out_channels": [32, 64, 64, 64], "layers_per_block": 2}
    assert activations.outputs({name: (10, 8)}, sizes, 256) == 10 * places

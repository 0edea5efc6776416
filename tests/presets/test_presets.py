"""Presets: each value is meant, has its reason, and fits the card that it is for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from impasto import checks, config, presets
from impasto.__main__ import main
from impasto.config import RunConfig
from impasto.families import detect, full_size
from impasto.preflight import estimate
from impasto.presets import Preset
from impasto.settings import form, toml

PAGE = Path("docs/how-to/presets.md")
EVERY = pytest.mark.parametrize("preset", presets.every(), ids=lambda each: each.name)


def read(preset: Preset, *more: str) -> RunConfig:
    return config.build(toml.parse(preset.toml, preset.name).values, more, config.Source(), Path.cwd())[0]


@EVERY
def test_every_value_is_no_default_and_has_a_reason(preset: Preset) -> None:
    usual = config.leaves(RunConfig())
    for name, value in preset.values.items():
        assert not form.same(usual.get(name), value), name
        assert len(preset.reasons[name]) > 20, name
    assert {form.name_of(key) for key in form.remarks(preset.toml)} == set(preset.values)
    assert preset.title
    assert preset.why.endswith(".")


@EVERY
def test_every_preset_trains_but_for_the_base_and_the_pictures(preset: Preset, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    folders = f'data.sets.0.path="{tmp_path}/pictures"', f'output.folder="{tmp_path}/runs"'
    found = read(preset, 'model.path="pocket"', *folders)
    assert checks.check(found) == []


@pytest.fixture(scope="module")
def hollow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    import torch

    folder = tmp_path_factory.mktemp("bases")
    families = {"sd15": "sd1", "sdxl": "sdxl"}
    return {
        base: full_size.hollow(family, folder / f"{base}.safetensors", dtype=torch.bfloat16)  # type: ignore[arg-type]
        for base, family in families.items()
    }


@pytest.mark.parametrize(
    "preset",
    [each for each in presets.every() if each.family != "flux" and each.goal == "style"],
    ids=lambda each: each.name,
)
def test_what_is_estimated_fits_the_card(preset: Preset, hollow: dict[str, Path]) -> None:
    found = read(preset, f'model.path="{hollow[preset.family]}"', "device.name=cuda", "save.proof=off")
    card = detect.look(found.model)
    side = found.data.resolution or card.resolution
    assert isinstance(side, int)
    numbers = estimate.trained_numbers(found, card)
    needed = estimate.phases(found, card, area=side**2, batch=found.data.batch_size, numbers=numbers).peak
    assert needed < preset.memory * 1e9


def test_the_page_says_what_the_files_say() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("| `")
    ]
    told = {re.sub("`", "", row[0]): row[1:] for row in rows}
    for preset in presets.every():
        found = read(preset)
        goal, card = told[preset.goal], told[preset.name.removeprefix(f"{preset.goal}-")]
        rank = found.adapter.model_dump()["rank"]
        assert goal[1:] == [str(rank), str(found.train.epochs), f"{found.data.captions.dropout:g}"]
        bits = {"none": "16", "int8": "8", "nf4": "4"}[found.model.quantize]
        side = "" if found.data.resolution is None else str(found.data.resolution)
        checked = "yes" if found.model.gradient_checkpointing else ""
        assert card == [str(found.data.batch_size), side, checked, bits]
    assert len(told) == len(presets.GOALS) + len(presets.BASES) * len(presets.CARDS)


def test_a_new_file_begins_with_a_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pictures").mkdir()
    file = tmp_path / "a.toml"
    assert main(["new", str(file), "--data", str(tmp_path / "pictures"), "--preset", "style-flux-24gb"]) == 0
    found = config.load(file)
    assert (found.name, found.model.quantize, found.data.sets[0].path) == ("my-lora", "int8", tmp_path / "pictures")
    assert "# Mirrored pictures have the same style." in file.read_text()
    assert main(["new", str(tmp_path / "b.toml"), "--preset", "style-flux-16gb"]) == 2
    assert "style-flux-" in capsys.readouterr().err

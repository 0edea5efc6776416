"""Sweeps train many runs as one, stop the worse ones early, and each run is what it would be alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from impasto import events
from impasto.engine import run, session
from impasto.engine.sweeping import sweep
from impasto.engine.trainer import Trainer
from impasto.errors import ConfigError, LockedError
from impasto.sweeps import expand
from tests.engine import forks, sweeps
from tests.engine.fleets import farthest


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shown")
    forks.pictures(folder / "held", 2)
    return forks.pictures(folder / "pictures")


def test_each_run_of_a_sweep_is_what_it_would_be_alone(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    file = sweeps.settings(tmp_path, tiny_base, pictures)
    folder = sweeps.begun(file, ["adapter={kind='lora',rank=2},{kind='loha',rank=2}", "sweep.seeds=2"])
    sweep(folder, cache=tmp_path / "cache")
    runs = expand.runs(folder.plan())
    assert [each.seed for each in runs] == [5, 6, 5, 6]
    for each in runs[1:3]:
        output = each.config.output.model_copy(update={"folder": tmp_path / "alone"})
        alone = each.config.model_copy(update={"output": output})
        (path,) = run.train([alone], cache=tmp_path / "cache")
        assert (
            farthest(sweeps.file.load(path / f"{each.name}.safetensors")[0], sweeps.weights(folder)[each.name]) < 1e-4
        )


@pytest.mark.parametrize("side_by_side", [0, 2])
def test_halving_stops_the_worse_variants_and_says_why(
    tiny_base: Path, pictures: Path, tmp_path: Path, side_by_side: int
) -> None:
    file = sweeps.settings(tmp_path, tiny_base, pictures)
    given = [*sweeps.AXES, "sweep.halving.eta=2", f"sweep.side_by_side={side_by_side}"]
    folder = sweeps.begun(file, given)
    sweep(folder, cache=tmp_path / "cache")
    state = folder.state()
    first, second, third = state.rungs
    assert (first.step, len(first.dropped or {})) == (1, 3)
    assert (second.step, len(second.dropped or {})) == (2, 1)
    assert (third.step, len(third.dropped or {})) == (4, 1)
    assert len(sweeps.weights(folder)) == 1
    for name, why in state.dropped().items():
        stand = folder.run(name).state()
        told = [each for each in events.read(folder.run(name).events) if isinstance(each, events.Dropped)]
        assert stand.stage == "dropped"
        assert [each.text for each in told] == [why]
        assert "go on" in why
    (left,) = sweeps.weights(folder)
    assert all(loss is not None for rung in state.rungs for loss in rung.losses.values())
    assert all(rung.losses[left] <= sorted(rung.losses.values())[len(rung.losses) // 2] for rung in state.rungs)  # type: ignore[operator,type-var]


def test_a_variant_that_diverges_is_a_result_and_no_error(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    file = sweeps.settings(tmp_path, tiny_base, pictures)
    folder = sweeps.begun(file, ["optim.learning_rate=1e-3,100.0", "adapter.alpha=1e6", "sweep.halving.eta=2"])
    sweep(folder, cache=tmp_path / "cache")
    assert list(sweeps.weights(folder)) == ["small-lr1e-3"]


def test_a_fleet_that_does_not_fit_is_halved_and_ends_alike(
    tiny_base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = sweeps.settings(tmp_path, tiny_base, pictures, steps=4)
    whole = sweeps.begun(file, ["adapter.rank=2,3,4,5", "sweep.side_by_side=2"])
    sweep(whole, cache=tmp_path / "cache")
    step = Trainer.step

    def small_device(trainer: Trainer) -> Any:
        if len(trainer.members) > 2 and trainer.members[0].step == 2:
            raise torch.OutOfMemoryError("out of memory")
        return step(trainer)

    monkeypatch.setattr(Trainer, "step", small_device)
    other = sweeps.begun(file, ["adapter.rank=2,3,4,5", "name=other"])
    sweep(other, cache=tmp_path / "cache")
    assert list(map(len, other.state().fleets["0:end"])) == [2, 2]
    for a, b in zip(sweeps.weights(whole).values(), sweeps.weights(other).values(), strict=True):
        assert farthest(a, b) < 1e-4


def test_halving_without_anything_to_compare_by_is_refused(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    file = sweeps.settings(tmp_path, tiny_base, pictures)
    folder = sweeps.begun(file, ["adapter.rank=2,4", "data.sets.1=", "sweep.halving.eta=2"])
    with pytest.raises(ConfigError, match="E-SWP-006"):
        sweep(folder, cache=tmp_path / "cache")
    folder.settings.write_text(folder.settings.read_text().replace("[2, 4]", "[2, 8]"))
    with pytest.raises(LockedError, match="E-SWP-003"):
        sweep(folder, cache=tmp_path / "cache")


def test_a_finished_sweep_is_left_as_it_is(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    file = sweeps.settings(tmp_path, tiny_base, pictures, steps=4)
    folder = sweeps.begun(file, ["adapter.rank=2,4", "sweep.halving.eta=2"])
    sweep(folder, cache=tmp_path / "cache")
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file() and path.name != "lock"}
    sweep(sweeps.begun(file, ["adapter.rank=2,4", "sweep.halving.eta=2"]), cache=tmp_path / "cache")
    after = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file() and path.name != "lock"}
    assert before == after
    assert json.loads((folder.path / "state.json").read_text())["version"] == 1


def test_what_the_base_draws_is_drawn_once_for_all(
    tiny_base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    draw = session.preview.draw

    def counting(*args: Any, **kwargs: Any) -> Any:
        drawn.append(args[2].text)
        return draw(*args, **kwargs)

    monkeypatch.setattr(session.preview, "draw", counting)
    file = sweeps.settings(tmp_path, tiny_base, pictures, steps=1)
    prompt = "preview.prompts=[{text='a thing',steps=1,width=16,height=16}]"
    folder = sweeps.begun(file, ["optim.learning_rate=1e-4,0.5", prompt, "preview.every_steps=1", "train.steps=2"])
    sweep(folder, cache=tmp_path / "cache")
    assert drawn == ["a thing"] * 5
    before = [folder.run(name).preview(0, 0).read_bytes() for name in folder.state().runs]
    after = [folder.run(name).preview(2, 0).read_bytes() for name in folder.state().runs]
    assert before[0] == before[1]
    assert after[0] != after[1]

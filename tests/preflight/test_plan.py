"""The plan says what a run then does."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from impasto import adapters, events, families
from impasto.__main__ import main
from impasto.config import RunConfig
from impasto.data.plan import spread
from impasto.engine import prepare, run
from impasto.engine.member import trained
from impasto.errors import OutOfMemory
from impasto.events import Event
from impasto.families import detect, text, tiny
from impasto.preflight import estimate, show
from impasto.preflight.plan import plan
from impasto.preflight.probe import probed
from impasto.store import Store
from tests.preflight import runs


def rolled(seed: int, root: Path) -> RunConfig:
    """Settings by dice, over folders of several shapes and roles."""
    dice = random.Random(seed)
    sets = [{"path": str(root / "square"), "repeats": dice.choice([None, 1, 3])}]
    if dice.random() < 0.6:
        sets.append(
            {"path": str(root / "wide"), "repeats": dice.choice([1, 2, 5]), "batch_size": dice.choice([None, 3])}
        )
    if dice.random() < 0.5:
        sets.append({"path": str(root / "class"), "role": "regularization", "repeats": dice.choice([None, 2])})
    if dice.random() < 0.3:
        sets.append({"path": str(root / "held"), "role": "validation"})
    length = {"steps": dice.randint(1, 90)} if dice.random() < 0.5 else {"epochs": dice.randint(1, 7)}
    return RunConfig.model_validate(
        {
            "data": {"sets": sets, "batch_size": dice.randint(1, 5), "buckets": {"enabled": dice.random() < 0.8}},
            "train": {**length, "accumulate": dice.randint(1, 4), "seed": dice.randint(0, 99)},
            "save": {"every_steps": dice.choice([None, 4, 7]), "every_epochs": dice.choice([None, 1, 2]),
                     "files": dice.choice([None, 3])},
            "preview": {
                "prompts": [{"text": "x"}], "every_steps": dice.choice([None, 5]),
                "every_epochs": dice.choice([None, 3]),
                "at_start": dice.random() < 0.5,
            },
            "output": {"folder": str(root / "runs")},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, count, size in (
        ("square", 7, (64, 64)),
        ("wide", 4, (96, 48)),
        ("class", 9, (64, 64)),
        ("held", 2, (64, 64)),
    ):
        runs.pictures(folder / name, count, size=size)
    return folder


@pytest.mark.parametrize("seed", range(60))
def test_as_many_steps_are_planned_as_the_feed_of_the_trainer_has(seed: int, root: Path) -> None:
    """The trainer takes `plan.step(0)`, `plan.step(1)` ... of what `prepare.look` makes, and asks it after each what is
    due: that is walked here step by step and counted; only the model is not there."""
    config, store = rolled(seed, root), Store(root / "cache")
    card = detect.look(config.model)
    steps = plan(config, store).steps
    feed = prepare.look(config, card, store, lambda event: None)
    assert steps.total == feed.plan.total_steps(config.train)
    saves, looks, step = [], 0, 0
    while step < steps.total:
        micros = feed.plan.step(step)
        assert micros
        looks += sum(len(micro.visits) for micro in micros if config.data.sets[micro.set].role == "train")
        step += 1
        by_part = step in spread(steps.total, config.save.files)
        if step < steps.total and (by_part or feed.plan.due(step, config.save.every_steps, config.save.every_epochs)):
            saves.append(step)
    assert steps.saves == (*saves, steps.total)
    if config.train.epochs is not None:
        pictures = sum(
            len(found) for found, each in zip(feed.scan.examples, config.data.sets, strict=True) if each.role == "train"
        )
        assert looks == pytest.approx(steps.per_picture * pictures)
        assert feed.plan.epochs_done(steps.total) == config.train.epochs
        assert steps.epochs == config.train.epochs


@pytest.mark.parametrize("seed", [3, 8])
def test_a_run_does_what_was_planned(seed: int, root: Path, tmp_path: Path, tiny_base: Path) -> None:
    values = rolled(seed, root).model_dump()
    values["model"]["path"] = str(tiny_base)
    values["train"] |= {"steps": None, "epochs": 2}
    values["save"] |= {"proof": "off", "every_epochs": 1}
    values["preview"] |= {"at_start": True, "every_epochs": 1}
    values["preview"]["prompts"][0]["steps"] = 1
    values["output"]["folder"] = tmp_path
    values["device"]["name"] = "cpu"
    config = RunConfig.model_validate(values)
    made = plan(config, Store(tmp_path / "cache"))
    told: list[Event] = []
    (folder,) = run.train([config], cache=tmp_path / "cache", show=lambda _, event: told.append(event))
    assert [each.step for each in told if isinstance(each, events.Step)] == list(range(1, made.steps.total + 1))
    saved = [each for each in told if isinstance(each, events.Saved) and each.file and "-best." not in each.file]
    assert tuple(each.step for each in saved) == made.steps.saves
    assert tuple(each.step for each in told if isinstance(each, events.Preview)) == made.steps.previews
    accepted = json.loads((folder / "record.json").read_text())["advice"]["accepted"]
    assert accepted == [each.code for each in made.advice]
    assert {each.code for each in told if isinstance(each, events.Warned)} >= set(accepted)
    after = plan(config, Store(tmp_path / "cache"))
    assert (made.cache.cached, after.cache.cached) == (0, after.cache.pictures)
    assert made.seconds is None or made.seconds.basis == "uncalibrated"
    if made.steps.total > 3:  # the first steps of a process say nothing
        assert after.seconds is not None
        assert after.seconds.basis == "earlier"


def test_planning_imports_no_torch_and_speaks_json(root: Path, tmp_path: Path) -> None:
    program = f"""
import sys
from impasto.__main__ import main
assert main(["plan", {str(root / "square")!r}, "--json"]) == 0
heavy = {{"torch", "diffusers", "transformers", "accelerate", "scipy"}} & set(sys.modules)
assert not heavy, heavy
"""
    settings = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=settings, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["version"], found["pictures"]["used"], found["steps"]["total"]) == (1, 7, 70)
    assert found["seconds"]["basis"] == "uncalibrated"


def test_the_text_names_what_matters(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
                                     tmp_path: Path) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["plan", str(root / "square"), str(root / "wide"), "adapter.alpha=9", "save.every_epochs=2"]) == 0
    told = capsys.readouterr().out
    for words in ("11 used of 11", "64x64: 7 pictures", "110 in all", "saves: 5", "A-101", "rough estimate", "tokens:"):
        assert words in told
    assert main(["plan", str(root / "square"), "adapter.alpha=9", "--strict"]) == 2
    assert "A-101" in capsys.readouterr().err


def test_training_strictly_refuses_advice(root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asked = ["train", str(root / "square"), "adapter.alpha=9", "--runs", str(tmp_path), "--strict", "--plain"]
    assert main(asked) == 2
    assert "A-101" in capsys.readouterr().err


def test_bad_pictures_copies_and_letters_are_told(tmp_path: Path) -> None:
    folder = runs.pictures(
        tmp_path / "pics", 30, words=lambda at: "Dear user, I hope this helps" if at == 4 else f"ohwx {at}"
    )
    (folder / "bad.png").write_bytes(b"no picture")
    (folder / "bad.txt").write_text("x")
    (folder / "7.bmp").write_bytes((folder / "8.bmp").read_bytes())
    made = runs.planned(folder)
    assert [(each.count, each.code[:5]) for each in made.pictures.refused] == [(1, "E-IMG")]
    assert [[Path(each).name for each in group] for group in made.pictures.copies] == [["7.bmp", "8.bmp"]]
    assert [Path(each).name for each in made.words.letters] == ["4.txt".replace("txt", "bmp")]


def test_a_probe_measures_and_the_estimate_is_near_it(tmp_path: Path) -> None:
    """Held to -10 % and +25 %; `scripts/memory_check` does so for more cases."""
    folder = runs.pictures(tmp_path / "pics", 8)
    config = runs.config(folder, ["data.batch_size=8", "train.steps=100", "device.name=cpu", "device.threads=1"])
    made = plan(config, Store(tmp_path / "cache"))
    found = probed(config, made)
    assert made.memory
    assert found.memory
    assert found.seconds
    assert (made.memory.basis, found.memory.basis, found.seconds.basis) == ("calibrated", "measured", "measured")
    assert -0.10 <= made.memory.low * 1.25 / found.memory.low - 1 <= 0.25
    assert 0 < found.seconds.low < 1000
    assert not (tmp_path / "runs").exists()
    assert "measured by --probe" in "\n".join(show.lines(found))


def test_a_probe_that_fails_says_so(tmp_path: Path) -> None:
    folder = runs.pictures(tmp_path / "pics", 2)
    config = runs.config(folder, ["device.name=cuda:7"])
    with pytest.raises(OutOfMemory, match="E-MEM-010") as caught:
        probed(config, plan(config, Store(tmp_path / "cache")))
    assert "cuda:7" in str(caught.value)


@pytest.mark.parametrize("settings", [[], ["adapter.conv_rank=3"], ["adapter.targets.text_encoder=false"]])
@pytest.mark.parametrize("base", ["pocket", "tiny", "xl", "file"])
def test_as_many_numbers_are_told_as_are_trained(
    base: str, settings: list[str], tmp_path: Path, tiny_base: Path
) -> None:
    path = {"pocket": "pocket", "tiny": str(tiny_base)}.get(base, "")
    if base == "xl":
        path = str(tiny.stable_diffusion_xl(tmp_path / "xl"))
    if base == "file":
        path = str(tiny.single_file(tiny_base, tmp_path / "file.safetensors"))
        settings = [*settings, f"model.config_path={str(tiny_base)!r}"]
    laid = runs.config(tmp_path, settings).model_dump()
    config = RunConfig.model_validate({**laid, "model": {**laid["model"], "path": path}})
    card = detect.look(config.model)
    seats = adapters.seats(config.adapter, trained(config, families.outline(card)))
    numbers = sum(each.sized.rank * sum(_sides(each.target.layer.weight.shape)) for each in seats)
    assert estimate.trained_numbers(config, card) == numbers


def _sides(shape: Sequence[int]) -> tuple[int, int]:
    return shape[0], math.prod(shape[1:])


def test_a_base_whose_heads_cannot_be_read_only_loses_its_estimates(tmp_path: Path, tiny_base: Path) -> None:
    base, folder = tmp_path / "base", runs.pictures(tmp_path / "pics")
    shutil.copytree(tiny_base, base)
    (base / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"?")
    made = runs.planned(folder, [*runs.PLAIN, f"model.path={str(base)!r}"])
    assert (made.trained, made.memory, made.seconds, made.disk.total) == (None, None, None, None)
    assert made.steps.total == 360
    assert "memory" not in "\n".join(show.lines(made))


def test_one_file_in_two_sets_is_no_copy_of_itself(tmp_path: Path) -> None:
    """Regularization with the training pictures, or a set at two resolutions, is meant."""
    folder = runs.pictures(tmp_path / "pics")
    again = [f"data.sets.1.path={str(folder)!r}", "data.sets.1.resolution=128"]
    prior = [f"data.sets.2.path={str(folder)!r}", "data.sets.2.role=regularization"]
    assert runs.planned(folder, [*runs.PLAIN, *again, *prior]).pictures.copies == ()


def test_the_page_names_every_key_of_the_json(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "plan.md").read_text("utf-8")
    found = json.loads(runs.planned(runs.pictures(tmp_path / "pics")).json())
    names = [*found, *(name for value in found.values() if isinstance(value, dict) for name in value)]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_plan_is_drawn(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    drawn = tmp_path / "plan.png"
    assert main(["plan", str(root / "square"), str(root / "wide"), "--picture", str(drawn)]) == 0
    with Image.open(drawn) as picture:
        assert picture.width > 3 * picture.height


@pytest.mark.parametrize(("family", "words", "cut"), [("sd3", 20, 0), ("sd3", 300, 1), ("flux", 300, 0)])
def test_captions_are_counted_for_t5_as_training_reads_them(family: str, words: int, cut: int, tmp_path: Path) -> None:
    base = (tiny.stable_diffusion_3 if family == "sd3" else tiny.flux)(tmp_path / family)
    shutil.rmtree(base / ("tokenizer_3" if family == "sd3" else "tokenizer_2"))  # T5's own comes with impasto
    long = " ".join(["lantern"] * words)
    folder = runs.pictures(tmp_path / "pictures", 4, words=lambda at: long if at == 0 else "a red lamp")
    made = runs.planned(folder, [f"model.path={base}", "train.epochs=30"])
    found = made.words.t5
    assert found is not None
    read = text.own_t5_tokenizer()(long).input_ids
    assert found.longest == len(read) - 1  # the mark at the end is no part of a caption
    assert found.limit == (255 if family == "sd3" else 511)
    assert len(found.cut) == cut
    assert ("A-406" in {each.code for each in made.advice}) == bool(cut)
    assert any("of T5" in each for each in show.lines(made))


def test_bases_without_t5_count_nothing_for_it(root: Path) -> None:
    made = runs.planned(root / "square")
    assert made.words.t5 is None

"""What is right by itself and wrong together is found before anything is loaded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from impasto import checks
from impasto.checks import advice, check, check_together
from impasto.config import RunConfig, read
from impasto.errors import Problem


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pics").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "note.txt").write_text("x")


def problems(*settings: str, pictures: bool = True) -> list[Problem]:
    return check(*read(None, ["data.sets.0.path=pics", *settings] if pictures else settings))


def test_a_plain_run_has_no_problems() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("settings", "code", "key", "words"),
    [
        (["name=CON"], "020", "name", "device"),
        (["name=nul.txt"], "020", "name", "device"),
        (["name=lpt1"], "020", "name", "device"),
        (["name=anna."], "020", "name", "name=\"anna\""),
        (["name=.."], "020", "name", "dot"),
        (["name=.hidden"], "020", "name", "dot"),
        (["name=" + "ä" * 100], "", "", ""),
        (["name=" + "漢" * 100], "020", "name", "too long"),
        (["train.steps=10", 'optim.schedule={kind="linear", warmup=11}'], "021", "optim.schedule.warmup", "longer"),
        (["train.steps=10", 'optim.schedule={kind="linear", warmup=10}'], "", "", ""),
        (
            ["train.steps=10", 'optim.schedule={kind="warmup-stable-decay", warmup=6, decay=5}'],
            "021", "optim.schedule.decay", "6 + 5",
        ),
        (["train.steps=2", 'optim.schedule={kind="cosine-restarts", cycles=3}'], "021", "optim.schedule.cycles", "3"),
        (["adapter.targets={unet=false, text_encoder=false}"], "022", "adapter.targets.unet", "no part"),
        (["optim.learning_rate=0"], "023", "optim.learning_rate", "learning_rate=1e-4"),
        (["optim.learning_rate=0", "optim.text_encoder_learning_rate=1e-5"], "", "", ""),
        (
            ["optim.learning_rate=0", "optim.text_encoder_learning_rate=1e-5", "adapter.targets.text_encoder=false"],
            "023", "optim.learning_rate", "0",
        ),
        (["optim.unet_learning_rate=0", "optim.text_encoder_learning_rate=0"], "023", "optim.learning_rate", "every"),
        (["adapter.train_norm=true", "adapter.targets.unet=false"], "143", "adapter.train_norm", "left out"),
        (["adapter.train_norm=true", "optim.unet_learning_rate=0"], "143", "adapter.train_norm", "train_norm=false"),
        (["adapter.train_norm=true", "adapter.targets.text_encoder=false"], "", "", ""),
        (["data.resolution=513"], "024", "data.resolution", "data.resolution=512"),
        (["data.resolution=[512, 770]"], "024", "data.resolution", "[512, 768]"),
        (["data.sets.0.resolution=100"], "024", "data.sets.0.resolution", "multiple of 8"),
        (["preview.prompts.0.text=x", "preview.prompts.0.width=65"], "024", "preview.prompts.0.width", "64"),
        (["data.buckets.smallest=512", "data.buckets.largest=256"], "024", "data.buckets.smallest", "larger"),
        (["data.buckets.step=60"], "024", "data.buckets.step", "64"),
        (["preview.every_steps=10"], "025", "preview.every_steps", "[[preview.prompts]]"),
        (["preview.every_epochs=1"], "025", "preview.every_epochs", "[[preview.prompts]]"),
        (["validation.patience=3", "validation.share=0.0"], "026", "validation.patience", 'role = "validation"'),
        (["validation.every_steps=10", "validation.pictures=0"], "026", "validation.every_steps", "on no pictures"),
        (["data.sets.1.path=pics"], "028", "data.sets.1.path", "twice"),
        (["data.sets.1.path=pics", "data.sets.1.repeats=2"], "", "", ""),
        (["data.sets.1.path=pics", "data.sets.1.role=validation"], "028", "data.sets.1.role", "trained on"),
        (["data.sets.1.path=gone"], "029", "data.sets.1.path", "there is no folder"),
        (["data.sets.1.path=pisc"], "029", "data.sets.1.path", "pics"),
        (["data.sets.1.path=gone/deep/x"], "029", "data.sets.1.path", "exists, what follows does not"),
        (["data.sets.1.path=note.txt"], "029", "data.sets.1.path", "is a file"),
        (["data.captions.metadata=gone.jsonl"], "030", "data.captions.metadata", "there is no file"),
        (["data.captions.metadata=other"], "030", "data.captions.metadata", "there is no file"),
        (["data.sets.0.captions.metadata=gone"], "030", "data.sets.0.captions.metadata", "there is no file"),
        (["data.masks.folder=gone"], "091", "data.masks.folder", "there is no folder"),
        (["data.sets.0.masks.folder=note.txt"], "091", "data.sets.0.masks.folder", "there is no folder"),
        (["data.sets.0.masks.folder=other", "output.folder=other"], "032", "output.folder", "picture folder"),
        (["model.path=gone"], "031", "model.path", "there is no folder"),
        (["model.path=pockt"], "031", "model.path", 'model.path="pocket"'),
        (["output.folder=pics"], "032", "output.folder", "picture folder"),
        (["output.folder=pics/deep/runs"], "032", "output.folder", "picture folder"),
        (["output.folder=.", "name=pics"], "032", "output.folder", "picture folder"),
        (["output.folder=/"], "032", "output.folder", "top of a disk"),
        (["output.folder=note.txt"], "032", "output.folder", "is a file"),
        (["output.folder=."], "", "", ""),
    ],
)  # fmt: skip
def test_a_contradiction_is_found(settings: list[str], code: str, key: str, words: str) -> None:
    found = problems(*settings)
    if not code:
        assert found == []
        return
    (problem,) = found
    assert problem.code == f"E-CFG-{code}"
    assert problem.where.endswith(key)
    assert words in f"{problem.what} {problem.fix}"
    assert problem.fix


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        (["optim.optimizer.kind=prodigy"], "W-CFG-001"),
        (["optim.optimizer.kind=d-adaptation", "optim.learning_rate=0.1"], "W-CFG-001"),
        (['optim.optimizer={kind="adafactor", relative_step=true}'], "W-CFG-001"),
        (['optim.optimizer={kind="library", name="Prodigy"}'], "W-CFG-001"),
        (["optim.learning_rate=1.0"], "W-CFG-002"),
        (["optim.optimizer.kind=prodigy", "optim.learning_rate=1.0"], ""),
        (["optim.optimizer.kind=sgd", "optim.learning_rate=1.0"], ""),
        (["optim.optimizer.kind=adafactor"], ""),
    ],
)
def test_a_rate_that_is_probably_not_meant_is_warned_of(settings: list[str], code: str) -> None:
    found = advice(read(None, ["data.sets.0.path=pics", *settings])[0])
    assert [each.code for each in found] == [code] * bool(code)
    assert all(each.fix for each in found)


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    (problem,) = problems("optim.optimizer.kind=adamw-8bit")
    assert (problem.code, problem.fix) == ("E-CFG-046", "pip install bitsandbytes")


def test_a_run_without_pictures_is_told_how_to_name_them() -> None:
    (problem,) = problems(pictures=False)
    assert (problem.code, "data.sets.0.path=" in problem.fix) == ("E-CFG-027", True)


def test_all_contradictions_are_told_at_once() -> None:
    codes = {each.code for each in problems("name=CON", "data.sets.1.path=gone", "optim.learning_rate=0")}
    assert codes == {"E-CFG-020", "E-CFG-029", "E-CFG-023"}


def test_a_missing_folder_is_shown_whole_and_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("[[data.sets]]\nrole = 'train'\npath = 'gone'\n")
    (problem,) = check(*read("my.toml"))
    assert problem.where == "my.toml:3 data.sets.0.path"
    assert str(tmp_path / "gone") in problem.what


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "pics").chmod(0)
    assert "may not be read" in problems()[0].what
    (tmp_path / "pics").chmod(0o700)


def test_a_link_into_the_pictures_is_seen_through(tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to(tmp_path / "pics")
    assert [each.code for each in problems()] == ["E-CFG-032"]


def test_a_config_built_by_a_program_is_checked_too() -> None:
    (problem,) = check(RunConfig())
    assert problem.where == "data.sets"


def test_two_runs_cannot_live_in_one_folder() -> None:
    one, other = read(None, ["name=a"])[0], read(None, ["name=b"])[0]
    assert check_together([one, other]) == []
    assert [each.code for each in check_together([one, other, one])] == ["E-CFG-035"]

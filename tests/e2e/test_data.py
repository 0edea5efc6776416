"""What can be set for pictures and captions, in whole trainings: exact resumes, equal fleets, folders left as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import impasto
from impasto import events
from impasto.config import RunConfig
from impasto.events import Event
from impasto.runs import control
from impasto.runs.folder import RunFolder
from tests.data.pictures import tree
from tests.engine import forks

FROZEN_WORDS = {"rank": 4, "targets": {"text_encoder": False}}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return forks.pictures(tmp_path / "pictures")


def config(base: Path, pictures: Path, name: str, data: dict[str, Any] | None = None, **sections: Any) -> RunConfig:
    settings: dict[str, Any] = {
        "name": name,
        "model": {"path": str(base)},
        "data": {"batch_size": 2, "sets": [{"path": str(pictures)}], **(data or {})},
        "adapter": {"rank": 4, "alpha": 4.0},
        "optim": {"learning_rate": 1e-3},
        "train": {"steps": 8},
        "save": {"proof": "off", "precision": "fp32"},
        "output": {"folder": str(pictures.parent / "runs")},
        "device": {"threads": 1},
    }
    return RunConfig.model_validate({**settings, **sections})


def losses(folder: Path) -> list[float | None]:
    return [each.loss for each in impasto.history(folder) if isinstance(each, events.Step)]


def stop_at(step: int) -> Any:
    def ask(folder: Path, event: Event) -> None:
        if isinstance(event, events.Step) and event.step == step:
            control.ask(RunFolder(folder), "stop")

    return ask


def resumes_exactly(base: Path, pictures: Path, data: dict[str, Any], **sections: Any) -> Path:
    """Train through, train with a stop between, and train beside another: the same each time. Returns the first run."""
    cache, before = pictures.parent / "cache", tree(pictures)
    (whole,) = impasto.train([config(base, pictures, "whole", data, **sections)], cache=cache)
    halves = config(base, pictures, "halves", data, **sections)
    impasto.train([halves], cache=cache, show=stop_at(3))
    impasto.train([halves], cache=cache)
    runs = whole.parent
    assert len(losses(runs / "halves")) == 8
    assert forks.same(forks.weights(runs, "whole"), forks.weights(runs, "halves"))
    other = config(base, pictures, "other", None, **{**sections, "train": {"steps": 8, "seed": 9}})
    (fleet, _) = impasto.train([config(base, pictures, "fleet", data, **sections), other], cache=cache)
    assert losses(fleet) == pytest.approx(losses(whole), rel=1e-3)
    assert tree(pictures) == before
    return whole


CAPTIONS: dict[str, dict[str, Any]] = {
    "marks and wildcards": {"wildcards": True, "keep_tokens_separator": "|||", "lines": "random", "dropout": 0.1},
    "growing captions, epochs without": {"tag_warmup": 0.75, "shuffle": True, "dropout_every_epochs": 2},
}


@pytest.mark.parametrize("adapter", [FROZEN_WORDS, {"rank": 4}], ids=["words kept", "words learnt"])
@pytest.mark.parametrize("captions", CAPTIONS.values(), ids=CAPTIONS)
def test_captions_that_change_resume_exactly(
    tiny_base: Path, pictures: Path, captions: dict[str, Any], adapter: dict[str, Any]
) -> None:
    (pictures / "0.txt").write_text("sks ||| {red|blue}, a, b, c ||| photo\na second, line")
    resumes_exactly(tiny_base, pictures, {"captions": captions}, adapter=adapter)


def test_captions_with_too_many_variants_are_told_of(tiny_base: Path, pictures: Path) -> None:
    (pictures / "0.txt").write_text("a, b, c, d, e, f")
    run = config(tiny_base, pictures, "many", {"captions": {"shuffle": True}}, adapter=FROZEN_WORDS)
    (folder,) = impasto.train([run], cache=pictures.parent / "cache")
    told = [each.text for each in impasto.history(folder) if isinstance(each, events.Noted)]
    assert any(text.startswith("1 captions can be more than 16 texts") for text in told)

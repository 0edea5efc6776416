"""`impasto plot` shows what settings will do before they do it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from impasto.cli.main import run
from impasto.errors import ConfigError
from impasto.objectives.weighting import min_snr
from tests.engine import forks


def numbers(tmp_path: Path, *settings: str) -> dict[str, object]:
    run(["plot", *settings, "--out", str(tmp_path / "seen.json")])
    found = json.loads((tmp_path / "seen.json").read_text())
    assert isinstance(found, dict)
    return found


def test_the_numbers_are_those_that_train(tmp_path: Path) -> None:
    found = numbers(
        tmp_path, "objective.weighting.kind=min-snr", "objective.timesteps.low=200", "train.steps=100",
        "optim.schedule.kind=linear", "optim.learning_rate=1e-3", "optim.text_encoder_learning_rate=0",
    )  # fmt: skip
    times = found["timesteps"]
    assert sum(times["probability"]) == pytest.approx(1)
    assert sum(times["probability"][:200]) == 0
    np.testing.assert_allclose(times["weight"], min_snr(np.array(times["snr"]), "v", gamma=5.0))
    assert found["steps"] == list(range(1, 101))
    assert list(found["rates"]) == ["unet"]
    assert found["rates"]["unet"][0] == pytest.approx(1e-3)
    assert found["rates"]["unet"][-1] == pytest.approx(1e-5)


def test_epochs_are_counted_from_the_pictures(tmp_path: Path) -> None:
    pictures = forks.pictures(tmp_path / "pictures")
    found = numbers(tmp_path, f"data.sets.0.path={pictures}", "train.epochs=2", "data.batch_size=1")
    assert found["steps"] == list(range(1, 11))


def test_it_draws(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[train]\nsteps = 5000\n\n[objective.loss]\nkind = 'huber'\n")
    run(["plot", str(file), "--out", str(tmp_path / "seen.png")])
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither a \.png nor a \.json"):
        run(["plot", "train.steps=3", "--out", str(tmp_path / "seen.pdf")])

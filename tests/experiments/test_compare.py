"""Adapters side by side, from the command line to the page."""

from __future__ import annotations

import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import impasto
from impasto import families
from impasto.__main__ import main
from impasto.config import RunConfig
from impasto.engine.cells import Cell, draw
from impasto.engine.config import Prompt
from impasto.experiments import page
from impasto.families import detect
from impasto.families.config import Model
from impasto.store import Store
from impasto.weights.merge import lent
from tests.engine import forks

DRAWN = ["--steps", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """Two finished runs, `small` and `large`, one with a file in between and with previews."""
    folder = tmp_path_factory.mktemp("compared")
    pictures, held = forks.pictures(folder / "pictures"), forks.pictures(folder / "held", 3)
    made = [
        RunConfig.model_validate(
            {
                "name": name,
                "model": {"path": str(tiny_base)},
                "data": {
                    "sets": [
                        {"path": str(pictures)},
                        {"path": str(held), "role": "validation"},
                    ]
                },
                "adapter": {"rank": rank, "alpha": float(rank)},
                "optim": {"learning_rate": 1e-2},
                "train": {"steps": 4},
                "save": {"proof": "off", "every_steps": 2},
                "validation": {"every_steps": 2},
                "preview": {"prompts": [{"text": "a picture", "steps": 2, "seed": 3}]},
                "output": {"folder": str(folder / "runs")},
                "device": {"threads": 1},
            }
        )
        for name, rank in (("small", 2), ("large", 4))
    ]
    impasto.train(made, cache=folder / "cache")
    return folder / "runs"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_two_runs_become_a_page_a_picture_and_data(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["compare", "small@2", "large", "large:0.5", "--seeds", "1,2", "--runs", str(runs), *DRAWN]
    assert main(asked) == 0
    assert capsys.readouterr().out.strip() == "compare/index.html"
    told = json.loads(Path("compare/compare.json").read_text())
    assert [row["label"] for row in told["rows"]] == ["no adapter", "small · step 2", "large", "large · × 0.5"]
    assert [column["seed"] for column in told["columns"]] == [1, 2]
    assert all(column["text"] == "a picture" and column["steps"] == 2 for column in told["columns"])
    assert told["settings"] == {"adapter.rank": [2, 4], "adapter.alpha": [2.0, 4.0]}
    assert all(run["validation"] > 0 and run["curve"][-1][0] == 4 for run in told["runs"])
    cells = [[pixels(Path("compare") / name) for name in row] for row in told["cells"]]
    assert len({each.tobytes() for row in cells for each in row}) == 8
    assert pixels(Path("compare/grid.png")).shape[1] > 2 * 160
    html = Path("compare/index.html").read_text()
    assert html.count("data:image/webp;base64,") == 8
    assert not re.search(r"(src|href)=[\"']?(https?:|//)", html)


def test_a_cell_is_what_sample_draws_and_is_drawn_once(runs: Path, tmp_path: Path) -> None:
    adapter = runs / "large/large.safetensors"
    assert (
        main(["compare", str(adapter), "--without-base", "--prompt", "a picture", "--model", _base(runs), *DRAWN]) == 0
    )
    sampled = ["sample", "--adapter", str(adapter), "--prompt", "a picture", "--steps", "2", "--model", _base(runs)]
    assert main(sampled) == 0
    assert Path("compare/cells/00-00.png").read_bytes() == Path("sample.png").read_bytes()
    store, drawn = Store(tmp_path / "cells"), []
    cells = [Cell(Prompt(text="a picture", steps=2), adapter), Cell(Prompt(text="a picture", steps=2))]
    first = draw(Model(path=_base(runs)), cells, store, lambda done, total: drawn.append((done, total)), "cpu")
    again = draw(Model(path=_base(runs)), cells, store, lambda done, total: drawn.append((done, total)), "cpu")
    assert first == again
    assert drawn == [(1, 2), (2, 2)]
    assert pixels(BytesIO(first[0])).shape == (16, 16, 3)


def test_a_lent_base_is_the_same_to_the_bit_afterwards(runs: Path) -> None:
    adapter, model = runs / "large/large.safetensors", Model(path=_base(runs))
    family = families.load(detect.look(model), model, device=torch.device("cpu"), dtype=torch.float32)
    targets = {target.name: target for target in family.targets()}
    before = {name: target.base.weight.clone() for name, target in targets.items()}
    with lent(targets, adapter, 1.0):
        assert any(not torch.equal(before[name], target.base.weight) for name, target in targets.items())
    assert all(torch.equal(before[name], target.base.weight) for name, target in targets.items())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to compare is named"),
        (["smal"], "did you mean small?"),
        (["small@3"], "has no file of step 3"),
        (["gone.safetensors"], "there is no file"),
        (["none"], "no run here has preview.prompts"),
        (["small", "--seeds", "1,x"], "'x' is no number"),
        (["small", "--seeds", "-1"], "are no seeds"),
        (["small", "--steps", "0"], "steps"),
    ],
)
def test_what_cannot_be_compared_is_named(
    words: list[str], said: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *words, "--runs", str(runs)]) == 2
    assert said in capsys.readouterr().err


def test_runs_on_different_bases_are_not_drawn_on_one(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = (runs / "small/config.toml").read_text().replace(_base(runs), "pocket").replace('"small"', '"other"')
    other = Path("runs/other")
    other.mkdir(parents=True)
    (other / "config.toml").write_text(settings)
    (other / "other.safetensors").write_bytes((runs / "small/small.safetensors").read_bytes())
    assert main(["compare", str(runs / "small"), "other"]) == 2
    assert "have different bases: model.path" in capsys.readouterr().err


def test_the_page_holds_any_words_without_becoming_markup() -> None:
    html = page.html({"title": "</script><b>\u2028", "cells": []})
    assert "</script><b>" not in html.split("const C =")[1].split("\n")[0]
    assert json.loads(html.split("const C = ")[1].split(";\n")[0])["title"].startswith("</script><b>")


def test_what_sets_two_runs_apart_is_told(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "small", "large", "--runs", str(runs)]) == 0
    told = capsys.readouterr().out
    assert re.search(r"adapter\.rank +2 +4", told)
    assert re.search(r"^data\n  alike", told, re.MULTILINE)
    assert re.search(r"held out +\d", told)
    assert "output.folder" not in told


def pixels(path: Path | BytesIO) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture)


def _base(runs: Path) -> str:
    from impasto.config import load

    return load(runs / "small/config.toml").model.path

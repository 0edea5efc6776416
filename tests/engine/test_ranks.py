"""A trained DyLoRA as a file for each rank, and what each rank is worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import impasto
from impasto import events
from impasto.cli.display import ranks as table
from impasto.config import RunConfig
from impasto.runs.folder import RunFolder
from impasto.weights import file
from tests.engine import forks

CUT: dict[str, Any] = {"kind": "dylora", "rank": 4, "alpha": 4.0, "unit": 1, "train_norm": True, "export_ranks": [3, 1]}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return forks.pictures(tmp_path / "pictures")


def config(base: Path, pictures: Path, where: str, name: str = "one", steps: int = 4, **more: Any) -> RunConfig:
    values: dict[str, Any] = {
        "name": name,
        "model": {"path": str(base)},
        "data": {"batch_size": 2, "sets": [{"path": str(pictures)}]},
        "adapter": CUT,
        "optim": {"learning_rate": 1e-3, "ema": {"decay": 0.9}},
        "train": {"steps": steps},
        "validation": {"timesteps": [100, 900]},
        "save": {"precision": "fp32"},
        "output": {"folder": str(pictures.parent / where)},
        "device": {"threads": 1},
    }
    return RunConfig.model_validate({**values, **more})


def train(*configs: RunConfig) -> list[RunFolder]:
    cache = configs[0].output.folder.parent / "cache"
    return [RunFolder.open(each) for each in impasto.train(list(configs), cache=cache)]


def ranked(run: RunFolder) -> events.Ranked:
    (found,) = [each for each in events.read(run.events) if isinstance(each, events.Ranked)]
    return found


def test_each_rank_is_a_file_that_is_proven_and_measured(tiny_base: Path, pictures: Path) -> None:
    (run,) = train(config(tiny_base, pictures, "runs"))
    told = ranked(run)
    assert list(told.losses) == ["0", "1", "3", "4"]
    assert told.files == {"1": "one-rank-0001.safetensors", "3": "one-rank-0003.safetensors", "4": "one.safetensors"}
    assert (told.pictures, told.count) == ("training", 6)  # all four steps: fewer pictures than are asked for
    whole, _ = file.load(run.final)
    for rank in (1, 3):
        held, about = file.load(run.final_of(rank))
        assert held.keys() == whole.keys()
        assert {len(value) for name, value in held.items() if name.endswith("lora_down.weight")} == {rank}
        assert all((held[name] == whole[name]).all() for name in whole if name.endswith("_norm"))
        assert about["ss_network_dim"] == str(rank)
        assert json.loads(about["impasto.made"]) == {"made": "cut", "from": "one.safetensors", "rank": rank}
    proofs = [each for each in events.read(run.events) if isinstance(each, events.Proven)]
    assert len(proofs) == 3
    assert len({each.matched for each in proofs} | {each.expected for each in proofs}) == 1
    assert run.record()["ranks"] == told.model_dump(include={"pictures", "count", "losses", "files"})
    assert run.ranks.read_bytes().startswith(b"\x89PNG")
    lines = table(told).splitlines()
    assert lines[0] == "loss by rank, on 6 training pictures"
    assert [line.split()[0] for line in lines[2:]] == ["base", "1", "3", "4"]


def test_in_company_and_after_a_resume_the_files_and_the_measures_are_the_same(tiny_base: Path, pictures: Path) -> None:
    held_out = forks.pictures(pictures.parent / "held out", count=3)
    data = {"batch_size": 2, "sets": [{"path": str(pictures)}, {"path": str(held_out), "role": "validation"}]}
    quiet = {"precision": "fp32", "proof": "off"}
    (alone,) = train(config(tiny_base, pictures, "alone", data=data, save=quiet))
    both = [
        config(
            tiny_base,
            pictures,
            "both",
            data=data,
            save=quiet,
            steps=steps,
            name=name,
            train={"steps": steps, "seed": seed},
        )
        for steps in (2, 4)
        for name, seed in (("one", 0), ("two", 1))
    ]
    train(*both[:2])
    found, _ = train(*both[2:])
    assert ranked(alone).pictures == "validation"
    last = [each for each in events.read(found.events) if isinstance(each, events.Ranked)][-1]
    assert last.files == ranked(alone).files
    for rank, losses in ranked(alone).losses.items():
        assert losses == pytest.approx(last.losses[rank], rel=1e-5)
    for rank in (1, 3):
        one, other = (file.load(each.final_of(rank))[0] for each in (alone, found))
        assert all((one[name] - other[name]).abs().max() < 1e-4 for name in one)


def test_a_resume_alone_is_the_same_to_the_bit(tiny_base: Path, pictures: Path) -> None:
    quiet = {"precision": "fp32", "proof": "off"}
    (whole,) = train(config(tiny_base, pictures, "whole", save=quiet))
    train(config(tiny_base, pictures, "parts", save=quiet, steps=2))
    (parts,) = train(config(tiny_base, pictures, "parts", save=quiet))
    last = [each for each in events.read(parts.events) if isinstance(each, events.Ranked)][-1]
    assert last.losses == ranked(whole).losses
    for rank in (1, 3):
        one, other = (file.load(each.final_of(rank))[0] for each in (whole, parts))
        assert all((one[name] == other[name]).all() for name in one)

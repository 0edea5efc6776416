"""Runs that start from files, on merged bases, with blocks and rules: on the miniature, from settings to a proof."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from impasto import events
from impasto.config import RunConfig, base_key
from impasto.engine import sample
from impasto.engine.config import Prompt
from impasto.errors import ModelFileError
from impasto.families.config import Model
from impasto.weights import file
from tests.e2e.test_train import config, told, train
from tests.engine import forks


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return forks.pictures(tmp_path / "pictures")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


FIRST = {"rank": 4, "alpha": 2.0}
PROOF = {"proof": "final"}
NO_PROOF = {"proof": "off", "precision": "fp32"}


def first(base: Path, pictures: Path, cache: Path) -> Path:
    (folder,) = train(config(base, pictures, "first", adapter=FIRST, save=NO_PROOF, train={"steps": 2}), cache)
    return folder / "first.safetensors"


def test_a_run_begins_with_a_file_and_goes_on_without_it(tiny_base: Path, pictures: Path, cache: Path) -> None:
    begun = first(tiny_base, pictures, cache)
    adapter = {"rank": 8, "alpha": 8.0, "start": {"path": str(begun), "sizes": "file"}}
    still = {"learning_rate": 1e-12}
    (folder,) = train(
        config(tiny_base, pictures, adapter=adapter, optim=still, save=NO_PROOF, train={"steps": 1}), cache
    )
    held, _ = file.load(begun)
    ended, _ = file.load(folder / "anna.safetensors")
    assert {key: value.shape for key, value in ended.items()} == {key: value.shape for key, value in held.items()}
    assert max(float((ended[key] - value).abs().max()) for key, value in held.items()) < 1e-6
    begun.unlink()
    adapter["start"] = {"path": str(pictures.parent / "runs" / "first" / "first.safetensors"), "sizes": "file"}
    begun.write_bytes(b"gone")  # a resume does not look into it
    train(config(tiny_base, pictures, adapter=adapter, optim=still, save=NO_PROOF, train={"steps": 2}), cache)
    assert told(folder, events.Finished)[-1].step == 2


def test_the_scale_is_that_of_the_files_alpha_and_other_ranks_are_refused(
    tiny_base: Path, pictures: Path, cache: Path
) -> None:
    begun = first(tiny_base, pictures, cache)
    same = {"rank": 4, "alpha": 4.0, "start": {"path": str(begun)}, "targets": {"text_encoder": False}}
    (folder,) = train(config(tiny_base, pictures, adapter=same, train={"steps": 1}, save=PROOF), cache)
    ended, _ = file.load(folder / "anna.safetensors")
    assert {float(value) for key, value in ended.items() if key.endswith(".alpha")} == {2.0}
    assert told(folder, events.Proven)  # the file's alpha is the one that was trained with
    notes = " ".join(each.text for each in told(folder, events.Noted))
    assert "alpha of" in notes
    assert "are not trained here" in notes
    other = {"rank": 8, "start": {"path": str(begun)}}
    with pytest.raises(ModelFileError, match=r"E-MOD-042.*lora_unet_down_blocks_0.*does not fit"):
        train(config(tiny_base, pictures, "bob", adapter=other), cache)


def test_a_merged_base_is_another_base_for_training_proof_and_sample(
    tiny_base: Path, pictures: Path, cache: Path
) -> None:
    merged = first(tiny_base, pictures, cache)
    on = {"path": str(tiny_base), "merged": [{"path": str(merged), "weight": 8.0}]}
    plain, moved = config(tiny_base, pictures, "plain"), config(tiny_base, pictures, "moved", model=on, save=PROOF)
    assert base_key(plain) != base_key(moved)
    one, other = train([plain, moved], cache)
    held = [file.load(folder / f"{folder.name}.safetensors")[0] for folder in (one, other)]
    assert held[0].keys() == held[1].keys()
    assert any(bool((held[0][key] != held[1][key]).any()) for key in held[0])
    assert told(other, events.Proven)
    bases = [json.loads((folder / "record.json").read_text())["base"] for folder in (one, other)]
    assert bases[0]["sha256"] != bases[1]["sha256"]
    assert bases[1]["merged"] == [{"file": "first.safetensors", "weight": 8.0}]
    prompt = Prompt(text="a thing", steps=2)
    drawn = [
        sample.draw(Model.model_validate(each), prompt, adapters=laid, out=pictures.parent / "drawn.png").read_bytes()
        for each, laid in ((on, []), ({"path": str(tiny_base)}, [(merged, 8.0)]), ({"path": str(tiny_base)}, []))
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_blocks_rules_and_a_resting_text_encoder_resume_exactly(tiny_base: Path, pictures: Path, cache: Path) -> None:
    def settings(name: str, steps: int) -> RunConfig:
        blocks = {"down_rates": [0.0, 0.5, 1.0, 1.0], "ranks": [2] * 9}
        adapter = {"rank": 4, "blocks": blocks, "rules": [{"role": "mlp", "rank": 3, "rate": 2.0}], "max_norm": 0.5}
        lasting = {"steps": steps, "text_encoder_until": 3}
        return config(tiny_base, pictures, name, adapter=adapter, train=lasting, save={"precision": "fp32"})

    (whole,) = train(settings("whole", 6), cache)
    train(settings("parts", 4), cache)
    (parts,) = train(settings("parts", 6), cache)
    a, b = (file.load(folder / f"{folder.name}.safetensors")[0] for folder in (whole, parts))
    assert a.keys() == b.keys()
    assert all(bool((a[key] == b[key]).all()) for key in a)
    mlp = {len(value) for key, value in a.items() if "unet" in key and "ff_net" in key and key.endswith("down.weight")}
    assert mlp == {3}
    assert any("rests from step 3 on" in each.text for each in told(whole, events.Noted))
    steps = told(whole, events.Step)
    assert [each.rates["text_encoder"] > 0 for each in steps] == [True] * 3 + [False] * 3
    assert all(each.longest <= 0.5 + 1e-6 for each in steps)
    assert json.loads((whole / "record.json").read_text())["text_encoder_until"] == 3

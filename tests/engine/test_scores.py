"""Scores of adapters: the arithmetic on made-up features, and the command on real runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from impasto.__main__ import main
from impasto.engine.config import Prompt
from impasto.engine.features import Features, encoder, plain, unit
from impasto.engine.scores import Drawn, agreement, copies, likeness, probes, scores
from impasto.errors import ConfigError, ModelFileError
from impasto.families import tiny
from tests.engine import forks

CPU = torch.device("cpu")


def near(direction: int, count: int, spread: float = 0.2, seed: int = 0) -> Features:
    """Features around one axis of sixteen."""
    rows = np.random.default_rng(seed).normal(0, spread, (count, 16))
    rows[:, direction] += 1.0
    return unit(rows)


LEARNED = near(0, 12)
BASE = Drawn({"a": near(1, 4, seed=1)}, {"b": near(2, 4, seed=2)})


def test_the_base_is_0_and_the_training_pictures_are_1() -> None:
    assert scores(BASE, BASE, LEARNED).similarity == 0.0
    assert scores(BASE, BASE, LEARNED).leak == 0.0
    assert scores(BASE, BASE, LEARNED).diversity == 1.0
    like_them = Drawn({"a": near(0, 12, seed=5)}, {})
    assert scores(like_them, BASE, LEARNED).similarity == pytest.approx(1.0, abs=0.15)
    assert scores(like_them, BASE, LEARNED).leak is None


def test_a_concept_that_is_everywhere_leaks() -> None:
    clean = Drawn({"a": near(0, 4, seed=5)}, {"b": near(2, 4, seed=2)})
    leaky = Drawn({"a": near(0, 4, seed=5)}, {"b": near(0, 4, seed=6)})
    assert scores(clean, BASE, LEARNED).leak == pytest.approx(0.0, abs=1e-9)
    assert scores(leaky, BASE, LEARNED).leak == pytest.approx(1.0, abs=0.15)


def test_the_same_picture_for_every_seed_has_no_variety_and_one_seed_tells_none() -> None:
    stuck = Drawn({"a": np.repeat(near(0, 1), 4, axis=0)}, {})
    assert scores(stuck, BASE, LEARNED).diversity == pytest.approx(0.0, abs=1e-9)
    assert scores(Drawn({"a": near(0, 1)}, {}), BASE, LEARNED).diversity is None


def test_copies_are_those_closer_than_training_pictures_are_to_each_other() -> None:
    assert copies(near(0, 8, seed=9), LEARNED) < 0.3
    assert copies(LEARNED[:3], LEARNED) == 1.0
    assert copies(np.concatenate([LEARNED[:2], near(1, 2)]), LEARNED) == 0.5


def test_likeness_does_not_count_a_picture_as_its_own_neighbour() -> None:
    rows = np.eye(4)
    assert likeness(rows, rows, themselves=True) == 0.0
    assert likeness(rows[:1], rows) == pytest.approx(1 / 3)


def test_fit_to_words_is_the_mean_over_prompts() -> None:
    rows = np.eye(2)
    assert agreement({"a": rows[:1], "b": rows[:1]}, {"a": rows[:1], "b": rows[1:]}) == 0.5
    assert scores(BASE, BASE, LEARNED, 0.3, 0.4).match == pytest.approx(-0.1)


def test_plain_features_tell_form_and_colour_and_forgive_a_little_noise() -> None:
    def disc(colour: str, x: int, noise: int = 0) -> Image.Image:
        picture = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(picture).ellipse((x, 20, x + 24, 44), fill=colour)
        grains = np.random.default_rng(0).integers(-noise, noise + 1, (64, 64, 3))
        return Image.fromarray(np.clip(np.asarray(picture, dtype=int) + grains, 0, 255).astype(np.uint8))

    red = plain(disc("red", 8))
    assert np.linalg.norm(red) == pytest.approx(1.0)
    like = {name: float(red @ plain(each)) for name, each in {
        "the same, with noise": disc("red", 8, 3), "another colour": disc("blue", 8), "elsewhere": disc("red", 32),
    }.items()}  # fmt: skip
    assert like["the same, with noise"] > 0.99
    assert like["the same, with noise"] > max(like["another colour"], like["elsewhere"]) + 0.05


def test_a_clip_and_a_dino_from_a_folder_are_read_and_clip_reads_words(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokenizer = tiny.byte_tokenizer()
    words = {**sizes, "vocab_size": len(tokenizer), "max_position_embeddings": 77, "eos_token_id": 1}
    clip = CLIPConfig(text_config=words, vision_config={**sizes, "image_size": 32, "patch_size": 16}, projection_dim=8)
    dino = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14, mlp_ratio=1
    )
    ready = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    for name, model in (("clip", CLIPModel(clip)), ("dino", Dinov2Model(dino))):
        model.save_pretrained(tmp_path / name, safe_serialization=True)
        ready.save_pretrained(tmp_path / name)
    tokenizer.save_pretrained(tmp_path / "clip")
    pictures = [Image.fromarray(np.random.default_rng(at).integers(0, 255, (40, 50, 3), np.uint8)) for at in range(3)]
    for name in ("clip", "dino"):
        rows = encoder(str(tmp_path / name), CPU).pictures(pictures)
        assert len(rows) == 3
        assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(3))
        assert not np.allclose(rows[0], rows[1])
    read = encoder(str(tmp_path / "clip"), CPU)
    assert read.words is not None
    assert read.words(["a thing", "another"]).shape == read.pictures(pictures[:2]).shape
    assert encoder(str(tmp_path / "dino"), CPU).words is None


def test_a_folder_that_is_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        encoder(str(tmp_path), CPU)
    assert caught.value.problems[0].code == "E-SCO-001"


def test_twins_without_the_trigger_read_well() -> None:
    prompts = [Prompt(text=text) for text in ("a Zorb on a beach", "a zorb, in the snow", "a zorbish thing")]
    found = probes(prompts, "zorb", "")
    assert [each.text for each in found.with_trigger] == ["a Zorb on a beach", "a zorb, in the snow"]
    assert [each.text for each in found.without] == ["a on a beach", "a, in the snow"]
    assert probes(prompts, "zorb", "dog").without[0].text == "a dog on a beach"
    with pytest.raises(ConfigError) as caught:
        probes(prompts, "anna", "")
    assert caught.value.problems[0].code == "E-SCO-002"


def test_a_run_is_scored_from_the_command_line(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forks.pictures(tmp_path / "pictures")
    trained = ["train", "pictures", f"model.path={tiny_base}", "train.steps=2", "save.proof=off", "device.threads=1"]
    assert main([*trained, "name=anna", "--plain"]) == 0
    asked = ["score", "anna", "--prompt", "a thing", "--trigger", "thing", "--seeds", "1,2", "--device", "cpu"]
    assert main([*asked, "--json", "scores.json"]) == 0
    assert "against 5 training pictures" in capsys.readouterr().out
    told = json.loads(Path("scores.json").read_text())
    assert set(told["scores"]["anna"]) == {"similarity", "leak", "diversity", "copies", "match"}
    (final,) = Path("runs/anna").glob("*.safetensors")
    assert main(["score", str(final), "--prompt", "a thing", "--model", str(tiny_base)]) == 2
    assert "E-SCO-003" in capsys.readouterr().err

"""What can be set for pictures and captions, in whole trainings: exact resumes, equal fleets, folders untouched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import impasto
from impasto import events, families
from impasto.__main__ import main
from impasto.config import RunConfig
from impasto.engine import device, prepare, sample
from impasto.engine.config import Prompt
from impasto.events import Event
from impasto.families import detect
from impasto.families.config import Model
from impasto.runs import control
from impasto.runs.folder import RunFolder
from impasto.store import Store
from impasto.weights import file
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


WORDS = {"clip_skip": 2, "max_tokens": 150, "emphasis": "plain", "token_padding": False}


@pytest.mark.parametrize("adapter", [FROZEN_WORDS, {"rank": 4}], ids=["words kept", "words learnt"])
def test_captions_are_read_alike_in_training_previews_proofs_and_samples(
    tiny_base: Path, pictures: Path, adapter: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (pictures / "0.txt").write_text("a (thing:1.4), [noise]" + ", long" * 20)
    sections = {
        "adapter": adapter,
        "model": {"path": str(tiny_base), **WORDS},
        "save": {"proof": "final", "precision": "fp32"},
        "preview": {"prompts": [{"text": "a (thing:1.5)", "steps": 2}], "every_steps": 8, "at_start": False},
    }
    folder = resumes_exactly(tiny_base, pictures, {"captions": {"dropout": 0.2}}, **sections)
    metadata = file.load(folder / "whole.safetensors")[1]
    assert (metadata["ss_clip_skip"], metadata["ss_max_token_length"]) == ("2", "150")
    monkeypatch.chdir(pictures.parent)
    drawn, again, otherwise = (pictures.parent / f"{name}.png" for name in ("drawn", "again", "otherwise"))
    adapter_file = str(folder / "whole.safetensors")
    line = ["sample", "--model", str(tiny_base), "--adapter", adapter_file, "--prompt", "a (thing:1.5)", "--steps", "2"]
    said = ["--clip-skip", "2", "--max-tokens", "150", "--emphasis", "plain", "--token-padding=false"]
    for out, more in ((drawn, []), (again, said), (otherwise, ["--clip-skip", "1"])):
        assert main([*line, *more, "--out", str(out)]) == 0
    assert drawn.read_bytes() == again.read_bytes() != otherwise.read_bytes()
    (preview,) = [each.file for each in impasto.history(folder) if isinstance(each, events.Preview)]
    prompt = Prompt(text="a (thing:1.5)", steps=2)
    model = Model(path=str(tiny_base), **WORDS)
    shown = sample.draw(model, prompt, adapters=[(folder / "whole.safetensors", 1.0)], out=pictures.parent / "s.png")
    ours, theirs = (np.asarray(Image.open(path), dtype=float) for path in (folder / "previews" / preview, shown))
    assert np.abs(ours - theirs).mean() < 1.0


def test_unlike_lengths_of_captions_train_in_a_fleet_as_alone(tiny_base: Path, pictures: Path) -> None:
    model = {"path": str(tiny_base), "token_padding": False}
    resumes_exactly(tiny_base, pictures, {"captions": {"tag_dropout": 0.5}}, model=model, adapter=FROZEN_WORDS)


def source(config: RunConfig, cache: Path) -> prepare.Source:
    """What a run's batches come from."""
    card, store = detect.look(config.model), Store(cache)
    compute = device.choose(config.device, config.model)
    family = families.load(card, config.model, device=compute.device, dtype=compute.dtype)
    return prepare.Source(config, prepare.look(config, card, store, lambda _: None), card, family, compute, store)


def draw_masks(pictures: Path) -> Path:
    """White on the left half, for every picture, in a folder of their own."""
    masks = pictures.parent / "masks"
    masks.mkdir()
    for path in pictures.glob("*.png"):
        with Image.open(path) as picture:
            mask = Image.new("L", picture.size)
            mask.paste(255, (0, 0, picture.width // 2, picture.height))
            mask.save(masks / path.name)
    return masks


def test_batches_hold_masks_cut_and_mirrored_like_their_pictures(tiny_base: Path, pictures: Path) -> None:
    data = {"masks": {"folder": str(draw_masks(pictures))}, "augment": {"flip": True}, "resolution": 16}
    made = source(config(tiny_base, pictures, "masked", data), pictures.parent / "cache")
    plan = made._feed.plan
    sides = set()
    for micro in plan.epoch(0):
        batch = made.batch(micro)
        assert batch.mask is not None
        assert batch.mask.shape == (len(micro.visits), 1, *batch.latents.shape[-2:])
        half = batch.mask.shape[-1] // 2
        for mask, visit in zip(batch.mask[:, 0], micro.visits, strict=True):
            seen, unseen = (mask[:, half:], mask[:, :half]) if visit.flip else (mask[:, :half], mask[:, half:])
            assert float(seen.mean()) > 0.9 > 0.1 > float(unseen.mean())
            sides.add(visit.flip)
    assert sides == {False, True}


def test_transparency_can_be_the_mask(tiny_base: Path, pictures: Path) -> None:
    for path in pictures.glob("*.png"):
        with Image.open(path) as picture:
            alpha = Image.new("L", picture.size, 255)
            alpha.paste(0, (0, 0, picture.width, picture.height // 2))
            whole = picture.convert("RGBA")
            whole.putalpha(alpha)
        whole.save(path)
    made = source(config(tiny_base, pictures, "cut-out", {"masks": {"alpha": True}}), pictures.parent / "cache")
    batch = made.step(0)[0]
    assert batch.mask is not None
    height = batch.mask.shape[-2]
    assert (batch.mask[:, :, : height // 2] == 0).all()
    assert (batch.mask[:, :, height // 2 :] == 1).all()
    without = source(config(tiny_base, pictures, "whole"), pictures.parent / "cache")
    assert without.step(0)[0].mask is None


@pytest.mark.parametrize("augment", [{"flip": True}, {"random_crop": True}], ids=["kept", "new at each visit"])
def test_masked_trainings_resume_exactly(tiny_base: Path, pictures: Path, augment: dict[str, Any]) -> None:
    data = {"masks": {"folder": str(draw_masks(pictures)), "alpha": True}, "augment": augment}
    resumes_exactly(tiny_base, pictures, data, objective={"mask": {"floor": 0.1}})


def test_what_is_masked_is_not_learnt(tiny_base: Path, pictures: Path) -> None:
    masks = draw_masks(pictures)
    for path in masks.glob("*.png"):
        with Image.open(path) as mask:
            black = Image.new("L", mask.size)
        black.save(path)
    run = config(tiny_base, pictures, "black", {"masks": {"folder": str(masks)}})
    (folder,) = impasto.train([run], cache=pictures.parent / "cache")
    assert set(losses(folder)) == {0.0}


def test_pictures_count_as_their_set_and_their_metadata_say(tiny_base: Path, pictures: Path) -> None:
    about = pictures.parent / "about.jsonl"
    about.write_text('{"file_name": "0.png", "weight": 3}\n{"file_name": "1.png", "text": "one"}')
    general = forks.pictures(pictures.parent / "general", count=2)
    sets = [
        {"path": str(pictures), "weight": 0.5, "captions": {"metadata": str(about)}},
        {"path": str(general), "role": "regularization", "weight": 2.0},
    ]
    run = config(tiny_base, pictures, "weighed", {"sets": sets}, objective={"prior_weight": 0.25})
    made = source(run, pictures.parent / "cache")
    found = {}
    for micro in made._feed.plan.epoch(0):
        for visit, weight in zip(micro.visits, made.batch(micro).weight.tolist(), strict=True):
            found[made._feed.example(visit).path.relative_to(pictures.parent).as_posix()] = weight
    assert found == {
        "pictures/0.png": 1.5, "pictures/1.png": 0.5, "pictures/2.png": 0.5, "pictures/3.png": 0.5,
        "pictures/4.png": 0.5, "general/0.png": 0.5, "general/1.png": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    "augment", [{"flip": True}, {"random_crop": True, "color": 0.5}], ids=["kept", "new each time"]
)
def test_threads_change_no_result_and_may_change_at_a_resume(
    tiny_base: Path, pictures: Path, augment: dict[str, Any]
) -> None:
    cache, found = pictures.parent / "cache", []
    general = forks.pictures(pictures.parent / "general", count=4)
    sets = [{"path": str(pictures)}, {"path": str(general), "role": "regularization"}]
    data = {"sets": sets, "augment": augment, "captions": {"shuffle": True}}
    for workers, prefetch in ((1, 2), (1, 0), (4, 9)):
        run = config(tiny_base, pictures, f"w{workers}p{prefetch}", {**data, "workers": workers, "prefetch": prefetch})
        (folder,) = impasto.train([run], cache=cache)
        found.append(forks.weights(folder.parent, folder.name))
    assert all(forks.same(found[0], each) for each in found[1:])
    impasto.train([config(tiny_base, pictures, "halves", data)], cache=cache, show=stop_at(3))
    impasto.train([config(tiny_base, pictures, "halves", {**data, "workers": 3, "prefetch": 5})], cache=cache)
    assert forks.same(found[0], forks.weights(pictures.parent / "runs", "halves"))


def test_kept_cuts_around_faces_resume_exactly_and_are_encoded_once(tiny_base: Path, pictures: Path) -> None:
    about = pictures.parent / "about.jsonl"
    about.write_text("".join(f'{{"file_name": "{n}.png", "face": [4, 2, {3 + n}, 5]}}\n' for n in range(4)))
    augment = {"face_crop": [1.2, 2.5], "random_crop": True, "color": 0.3, "flip": True, "variants": 3}
    data = {"resolution": 16, "captions": {"metadata": str(about)}, "augment": augment, "masks": {"alpha": True}}
    resumes_exactly(tiny_base, pictures, data, adapter=FROZEN_WORDS)
    cache = pictures.parent / "cache"
    kept = {entry.key for entry in Store(cache).entries() if entry.kind == "latents"}
    again = config(tiny_base, pictures, "again", data, adapter=FROZEN_WORDS, train={"steps": 6, "seed": 4})
    (folder,) = impasto.train([again], cache=cache)
    assert {entry.key for entry in Store(cache).entries() if entry.kind == "latents"} == kept
    assert "E-DAT-059" in {each.code for each in impasto.history(folder) if isinstance(each, events.Warned)}

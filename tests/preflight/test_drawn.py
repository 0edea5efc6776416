"""`impasto data draw` shows what a training sees, visit by visit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from impasto import dice, families
from impasto.__main__ import main
from impasto.config import RunConfig, read
from impasto.data import encode
from impasto.engine import device, prepare
from impasto.preflight import drawn, sheet
from impasto.preflight.plan import looked
from impasto.store import Store
from tests.engine import forks

CHANGES = (
    'data.batch_size=3', "data.sets.0.repeats=2", "data.augment.flip=true", "data.augment.random_crop=true",
    "data.captions.shuffle=true", "data.captions.dropout=0.3", "data.captions.prefix=ohwx ", "train.epochs=3",
    "data.cache=false", "data.resolution=16", "train.accumulate=2",
)  # fmt: skip


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = forks.pictures(tmp_path / "pictures")
    for at, path in enumerate(sorted(folder.glob("*.png"))):
        with Image.open(path) as found:
            found.resize((48 + 8 * at, 40)).save(path)
        path.with_suffix(".txt").write_text(f"thing {at}, red, large, on a table")
    return folder


def settings(base: Path, pictures: Path, changes: tuple[str, ...] = CHANGES) -> RunConfig:
    return read(None, (f"model.path={str(base)!r}", f"data.sets.0.path={str(pictures)!r}", *changes))[0]


@pytest.mark.parametrize("epoch", [1, 3])
def test_what_is_drawn_is_what_is_trained_on(tiny_base: Path, pictures: Path, epoch: int) -> None:
    config, store = settings(tiny_base, pictures), Store(pictures.parent / "cache")
    card, feed = looked(config, store)
    found = list(drawn.visits(config, card, feed, epoch=epoch))
    compute = device.choose(config.device, config.model)
    family = families.load(card, config.model, device=compute.device, dtype=compute.dtype)
    source = prepare.Source(config, feed, card, family, compute, store)
    seed, at = config.train.seed, 0
    with source.live(lambda _: None), family.vae() as vae:
        for step in range(feed.plan.start_of(epoch - 1), feed.plan.start_of(epoch)):
            for batch in source.step(step):
                some = found[at : at + len(batch.keys)]
                at += len(some)
                assert {each.step for each in some} == {step + 1}
                said = family.tokenize([each.caption for each in some])
                assert all(torch.equal(said[name], batch.cond[name]) for name in said)
                for each, key, latents in zip(some, batch.keys, batch.latents, strict=True):
                    pixels = torch.from_numpy(each.pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
                    mean, std = vae.encode((pixels * 2 - 1)[None])
                    expected = encode.draw_latents(mean[0], std[0], dice.seed("posterior", seed, key))
                    torch.testing.assert_close(latents, expected)
    assert at == len(found)
    assert any(each.visit.flip for each in found)
    assert len({each.caption for each in found}) > 3


def test_another_epoch_shows_other_choices_and_the_same_one_the_same(tiny_base: Path, pictures: Path) -> None:
    config, store = settings(tiny_base, pictures), Store(pictures.parent / "cache")
    card, feed = looked(config, store)
    first, second, again = (
        [(each.caption, each.visit.placement.crop) for each in drawn.visits(config, card, feed, epoch=epoch)]
        for epoch in (1, 2, 1)
    )
    assert first == again != second


def test_the_rest_of_the_last_epoch_is_not_shown(tiny_base: Path, pictures: Path) -> None:
    config = settings(tiny_base, pictures, tuple("train.steps=3" if "epochs" in each else each for each in CHANGES))
    card, feed = looked(config, Store(pictures.parent / "cache"))
    last = drawn.epochs(config, feed)
    steps = [each.step for each in drawn.visits(config, card, feed, epoch=last)]
    assert steps
    assert max(steps) == 3


def test_the_command_writes_sheets_pictures_masks_and_a_list(
    tiny_base: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sheet, "A_SHEET", 3)
    monkeypatch.setenv("XDG_CACHE_HOME", str(pictures.parent / "cache"))
    for path in pictures.glob("*.png"):
        with Image.open(path) as found:
            mask = Image.new("L", found.size)
            mask.paste(255, (0, 0, found.width // 2, found.height))
        mask.save(path.with_name(f"{path.stem}-mask.png"))
    (pictures / "0.txt").write_text("long, " * 80)
    out = pictures.parent / "out"
    laid = [f"model.path={str(tiny_base)!r}", "data.masks.suffix=-mask"]
    laid += [each for each in CHANGES if "dropout" not in each]
    assert main(["data", "draw", str(pictures), *laid, "--out", str(out), "--count", "0"]) == 0
    told = [json.loads(line) for line in (out / "visits.jsonl").read_text("utf-8").splitlines()]
    kinds = [path for path in pictures.glob("*.png") if "mask" not in path.stem]
    assert len(told) == 2 * len(kinds)
    assert len(list(out.glob("sheet-*.png"))) == -(-len(told) // 3)
    for each in told:
        with Image.open(out / each["file"]) as found, Image.open(out / each["mask"]) as mask:
            assert list(found.size) == each["bucket"] == list(mask.size)
            left, right = np.asarray(mask)[:, :2].mean(), np.asarray(mask)[:, -2:].mean()
            assert (left < right) == each["mirrored"]
        long = each["picture"].endswith("0.png")
        assert bool(each["tokens"]["CLIP"]["cut"]) == long
        assert each["tokens"]["CLIP"]["read"] <= 75
    printed = capsys.readouterr().out
    assert f"drew {len(told)} visits of epoch 1 of 3" in printed
    assert "2 captions are longer than what the base reads" in printed


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--epoch", "4"], "there is no epoch 4: this run has 3. Fix: --epoch 3"),
        (["--only", "nobody"], "no picture that is trained on holds 'nobody'"),
        (["--count", "-1"], "--count -1 is no number of visits"),
        (["--out", "pictures/drawn"], "is in the picture folder"),
        (["--out", "pictures"], "exists already"),
    ],
)
def test_what_cannot_be_drawn_is_told_and_nothing_is_written(
    tiny_base: Path, pictures: Path, more: list[str], said: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(pictures.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", str(pictures.parent / "cache"))
    before = sorted(pictures.rglob("*"))
    assert main(["data", "draw", str(pictures), f"model.path={str(tiny_base)!r}", *CHANGES, *more]) == 2
    assert said in capsys.readouterr().err
    assert not (pictures.parent / "drawn").exists()
    assert sorted(pictures.rglob("*")) == before


def test_drawing_needs_no_torch(pictures: Path) -> None:
    code = (
        "import sys\nfrom impasto.__main__ import main\n"
        f"assert main(['data', 'draw', {str(pictures)!r}, '--out', {str(pictures.parent / 'out')!r}]) == 0\n"
        "sys.exit('torch' in sys.modules)"
    )
    here = {**os.environ, "XDG_CACHE_HOME": str(pictures.parent / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=here, stdout=subprocess.DEVNULL)

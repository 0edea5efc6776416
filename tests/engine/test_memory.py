"""What of a base is in memory when, and that it does not matter for what is learnt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import impasto
from impasto import events, families
from impasto.config import RunConfig
from impasto.events import Event
from impasto.families import tiny
from impasto.families.family import Family
from impasto.runs.folder import RunFolder
from tests.engine import forks

MINIATURES: dict[str, Callable[[Path], Path]] = {
    "sd1": tiny.stable_diffusion,
    "sdxl": tiny.stable_diffusion_xl,
    "sd3": tiny.stable_diffusion_3,
    "flux": tiny.flux,
}
every_family = pytest.mark.parametrize("family", MINIATURES)


def config(base: Path, folder: Path, name: str, *, words: bool = False, **sections: Any) -> RunConfig:
    pictures = folder / "pictures"
    if not pictures.exists():
        forks.pictures(pictures)
    settings: dict[str, Any] = {
        "name": name,
        "model": {"path": str(base)},
        "data": {"batch_size": 2, "prefetch": 0, "sets": [{"path": str(pictures)}]},
        "adapter": {"rank": 2, "targets": {"text_encoder": words}},
        "train": {"steps": 2},
        "preview": {"prompts": [{"text": "a red thing", "steps": 1}], "every_steps": 1},
        "save": {"precision": "fp32"},
        "output": {"folder": str(folder / "runs")},
        "device": {"name": "cpu", "threads": 1},
    }
    return RunConfig.model_validate({**settings, **sections})


def there(module: nn.Module) -> bool:
    """Whether a part has its numbers: all of it or nothing."""
    (found,) = {not each.is_meta for each in (*module.parameters(), *module.buffers())}
    return found


class Watch:
    """Looks at each event which parts of the base are in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[Event, set[str]]] = []
        self._families: list[Family] = []
        lend = families.lend

        def watched(*given: Any, **more: Any) -> Family:
            self._families.append(lend(*given, **more))
            return self._families[-1]

        monkeypatch.setattr(families, "lend", watched)

    def show(self, _: Path, event: Event) -> None:
        for family in self._families[-1:]:
            lending = family.lending
            parts = {"vae": [lending.vae], "denoiser": [lending.denoiser], "words": lending.encoders}
            self.seen.append(
                (event, {name for name, lent in parts.items() if any(there(each.module) for each in lent)})
            )

    def at(self, kind: type[Event], name: str = "") -> list[set[str]]:
        return [parts for event, parts in self.seen if isinstance(event, kind) and getattr(event, "name", name) == name]


@every_family
def test_a_part_is_in_memory_while_it_is_needed(tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base, watch = MINIATURES[family](tmp_path / "base"), Watch(monkeypatch)
    impasto.train(config(base, tmp_path, "first"), cache=tmp_path / "cache", show=watch.show)
    for name, part in (("encode pictures", "vae"), ("encode captions", "words")):
        assert watch.at(events.Phase, name)
        assert all(each == {part} for each in watch.at(events.Phase, name))
    assert watch.at(events.Phase, "load")[-1] == set()
    for kind in (events.Started, events.Step, events.Preview, events.Proven, events.Finished):
        assert watch.at(kind)
        assert all(each == {"denoiser"} for each in watch.at(kind)), kind
    watch.seen.clear()
    impasto.train(config(base, tmp_path, "second"), cache=tmp_path / "cache", show=watch.show)
    assert all(parts <= {"denoiser"} for _, parts in watch.seen), "all is encoded: nothing else is ever read"


def test_words_that_are_learnt_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, watch = tiny.stable_diffusion_xl(tmp_path / "base"), Watch(monkeypatch)
    impasto.train(config(base, tmp_path, "words", words=True), cache=tmp_path / "cache", show=watch.show)
    assert all(each == {"words", "denoiser"} for each in watch.at(events.Step))


@pytest.mark.parametrize(("family", "words"), [("sd1", True), ("sdxl", False), ("sd3", False), ("flux", True)], ids=str)
def test_what_is_learnt_is_the_same_as_with_everything_in_memory(
    tmp_path: Path, family: str, words: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = MINIATURES[family](tmp_path / "base")
    silent = {"save": {"precision": "fp32", "proof": "off"}}
    impasto.train(config(base, tmp_path, "lent", words=words, **silent), cache=tmp_path / "cache")

    def whole(card: Any, model: Any, *, device: torch.device, dtype: torch.dtype, **_: object) -> Family:
        return families.load(card, model, device=device, dtype=dtype)

    monkeypatch.setattr(families, "lend", whole)
    impasto.train(config(base, tmp_path, "whole", words=words, **silent), cache=tmp_path / "another cache")
    lent, kept = (forks.weights(tmp_path / "runs", name) for name in ("lent", "whole"))
    assert forks.same(lent, kept)
    drawn = [RunFolder.open(tmp_path / "runs" / name).preview(2, 0) for name in ("lent", "whole")]
    assert drawn[0].read_bytes() == drawn[1].read_bytes()


@pytest.mark.parametrize(("family", "count"), [("sdxl", 1), ("flux", 2)])
def test_a_run_whose_blocks_wait_is_the_run(tmp_path: Path, family: str, count: int) -> None:
    """With previews and the proof of its file; it is stopped halfway and goes on."""
    base = MINIATURES[family](tmp_path / "base")
    for name, waiting in (("plain", 0), ("waiting", count)):
        model = {"path": str(base), "blocks_to_swap": waiting, "gradient_checkpointing": True}
        for steps in (1, 2) if waiting else (2,):
            settings = config(base, tmp_path, name, model=model, train={"steps": steps})
            (folder,) = impasto.train(settings, cache=tmp_path / "cache")
        assert any(isinstance(each, events.Proven) for each in impasto.history(folder))
    plain, waited = (forks.weights(tmp_path / "runs", name) for name in ("plain", "waiting"))
    assert plain.keys() == waited.keys()  # equal but for rounding, as the numbers lie elsewhere in memory
    assert all(torch.allclose(plain[name], waited[name], atol=1e-6) for name in plain)


def test_what_is_encoded_together_is_what_is_encoded_alone(tiny_base: Path, tmp_path: Path) -> None:
    learnt = []
    for name, size in (("alone", 1), ("together", 3)):
        settings = config(tiny_base, tmp_path, name, save={"precision": "fp32", "proof": "off"}, preview={})
        data = settings.data.model_copy(update={"vae_batch_size": size, "text_encoder_batch_size": size})
        impasto.train(settings.model_copy(update={"data": data}), cache=tmp_path / name)
        learnt.append(forks.weights(tmp_path / "runs", name))
    assert learnt[0].keys() == learnt[1].keys()
    assert all(torch.allclose(learnt[0][name], learnt[1][name], atol=1e-6) for name in learnt[0])

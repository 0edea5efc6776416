"""From settings to a trained adapter, on the miniature."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import impasto
from impasto import events
from impasto.config import RunConfig
from impasto.engine import sample
from impasto.engine.config import Prompt
from impasto.errors import DataError, DivergedError, LockedError, ModelFileError
from impasto.events import Event
from impasto.families.config import Model
from impasto.runs import control
from impasto.runs.folder import RunFolder
from impasto.store import Store
from impasto.weights import file
from tests.engine import forks


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return forks.pictures(tmp_path / "pictures")


def config(base: Path, pictures: Path, name: str = "anna", **sections: object) -> RunConfig:
    settings: dict[str, object] = {
        "name": name,
        "model": {"path": str(base)},
        "data": {"batch_size": 2, "sets": [{"path": str(pictures)}]},
        "adapter": {"rank": 4, "alpha": 4.0},
        "optim": {"learning_rate": 1e-3},
        "train": {"steps": 6},
        "save": {"proof": "off"},
        "output": {"folder": str(pictures.parent / "runs")},
        "device": {"threads": 1},
    }
    return RunConfig.model_validate({**settings, **sections})


def train(config: RunConfig | list[RunConfig], cache: Path, **options: object) -> list[Path]:
    return impasto.train(config, cache=cache, **options)  # type: ignore[arg-type]


def told(folder: Path, kind: type[Event]) -> list[Event]:
    return [each for each in impasto.history(folder) if isinstance(each, kind)]


def test_a_run_leaves_an_adapter_that_diffusers_loads_and_draws_alike(tiny_base: Path, pictures: Path) -> None:
    proven = config(tiny_base, pictures, adapter={"rank": 4, "conv_rank": 2}, save={"proof": "final"})
    (folder,) = train(proven, pictures.parent / "cache")
    tensors, metadata = file.load(folder / "anna.safetensors")
    (proof,) = told(folder, events.Proven)
    layers = {name.partition(".")[0] for name in tensors}
    assert proof.matched == proof.expected == len(layers)
    assert proof.difference <= 1 / 255
    assert metadata["ss_steps"] == "6"
    assert metadata["ss_network_module"] == "networks.lora"
    assert {"finished"} <= {each.kind for each in impasto.history(folder)}
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert any(value.abs().max() > 0 for name, value in tensors.items() if "lora_up" in name)


def test_a_second_run_on_the_same_pictures_encodes_nothing(tiny_base: Path, pictures: Path) -> None:
    cache = pictures.parent / "cache"
    words_fixed = {"rank": 4, "targets": {"text_encoder": False}}
    train(config(tiny_base, pictures, adapter=words_fixed), cache)
    kept = {entry.key for entry in Store(cache).entries()}
    assert Counter(entry.kind for entry in Store(cache).entries())["latents"] == 5
    (folder,) = train(config(tiny_base, pictures, "bob", adapter=words_fixed), cache)
    assert {entry.key for entry in Store(cache).entries()} == kept
    assert not [each for each in told(folder, events.Phase) if "encode" in each.name]


def test_a_changed_picture_alone_is_encoded_again(tiny_base: Path, pictures: Path) -> None:
    cache = pictures.parent / "cache"
    train(config(tiny_base, pictures), cache)
    before = {entry.key for entry in Store(cache).entries()}
    (pictures / "0.png").write_bytes((pictures / "2.png").read_bytes() + b"")
    forks.Image.new("RGB", (16, 16), "red").save(pictures / "0.png")
    train(config(tiny_base, pictures, "bob"), cache)
    latents = [entry for entry in Store(cache).entries() if entry.kind == "latents" and entry.key not in before]
    assert len(latents) == 1


def test_trained_together_is_trained_alone(tiny_base: Path, pictures: Path) -> None:
    def runs(name: str) -> list[RunConfig]:
        return [
            config(tiny_base, pictures, f"{name}-a", adapter={"rank": 2}, train={"steps": 4}),
            config(tiny_base, pictures, f"{name}-b", adapter={"rank": 8}, train={"steps": 6, "seed": 3}),
        ]

    cache = pictures.parent / "cache"
    together = train(runs("together"), cache)
    alone = [train(each, cache)[0] for each in runs("alone")]
    for a, b in zip(together, alone, strict=True):
        first, second = (file.load(each / f"{each.name}.safetensors")[0] for each in (a, b))
        assert all(torch.allclose(first[name].float(), second[name].float(), atol=1e-4) for name in first)
        assert [each.step for each in told(a, events.Step)] == [each.step for each in told(b, events.Step)]


def test_a_fleet_started_again_leaves_its_finished_members_alone(tiny_base: Path, pictures: Path) -> None:
    cache = pictures.parent / "cache"
    short, long = (config(tiny_base, pictures, name, train={"steps": 2}) for name in ("short", "long"))
    train([long, short], cache)
    longer = config(tiny_base, pictures, "long", train={"steps": 4})
    folders = train([longer, short], cache)
    assert [told(each, events.Step)[-1].step for each in folders] == [4, 2]


def test_the_same_command_again_says_that_it_is_finished(tiny_base: Path, pictures: Path) -> None:
    cache = pictures.parent / "cache"
    (folder,) = train(config(tiny_base, pictures), cache)
    before = (folder / "anna.safetensors").stat().st_mtime_ns
    train(config(tiny_base, pictures), cache)
    assert (folder / "anna.safetensors").stat().st_mtime_ns == before
    assert "already finished" in told(folder, events.Noted)[-1].text


def test_a_run_killed_behind_its_last_step_is_finished_and_ends(tiny_base: Path, pictures: Path) -> None:
    cache = pictures.parent / "cache"
    (folder,) = train(config(tiny_base, pictures), cache)
    final = load_file(folder / "anna.safetensors")
    (folder / "anna.safetensors").unlink()
    lines = [
        line for line in (folder / "events.jsonl").read_text().splitlines(keepends=True) if '"finished"' not in line
    ]
    (folder / "events.jsonl").write_text("".join(lines))
    train([config(tiny_base, pictures), config(tiny_base, pictures, name="ben")], cache)
    assert forks.same(load_file(folder / "anna.safetensors"), final)
    assert len(told(folder, events.Finished)) == 1


def test_more_steps_go_on_where_it_ended(tiny_base: Path, pictures: Path) -> None:
    cache = pictures.parent / "cache"
    (folder,) = train(config(tiny_base, pictures), cache)
    train(config(tiny_base, pictures, train={"steps": 9}), cache)
    assert [each.step for each in told(folder, events.Step)] == list(range(1, 10))
    train(config(tiny_base, pictures, "whole", train={"steps": 9}), cache)
    assert forks.same(forks.weights(folder.parent, "anna"), forks.weights(folder.parent, "whole"))


@pytest.mark.parametrize(
    ("sections", "key", "verdict"),
    [
        ({"adapter": {"rank": 8, "alpha": 4.0}}, "adapter.rank", "refused"),
        ({"train": {"steps": 8, "seed": 4}}, "train.seed", "allow"),
        ({"optim": {"learning_rate": 1e-4}, "train": {"steps": 8}}, "optim.learning_rate", "applied"),
    ],
)
def test_changed_settings_are_applied_refused_or_need_a_word(
    tiny_base: Path, pictures: Path, sections: dict[str, object], key: str, verdict: str
) -> None:
    cache = pictures.parent / "cache"
    (folder,) = train(config(tiny_base, pictures), cache)
    changed = config(tiny_base, pictures, **sections)
    if verdict == "applied":
        train(changed, cache)
        assert any(key in each.text for each in told(folder, events.Noted))
        return
    with pytest.raises(LockedError, match=key):
        train(changed, cache)
    if verdict == "allow":
        train(changed, cache, allow=frozenset({key}))
    else:
        with pytest.raises(LockedError):
            train(changed, cache, allow=frozenset({key}))
        train(changed, cache, restart=True)
        assert len(list(folder.parent.glob("anna*"))) == 2


def test_a_run_can_be_asked_to_save_to_draw_and_to_stop(tiny_base: Path, pictures: Path) -> None:
    prompts = {"prompts": [{"text": "a thing", "steps": 2}], "at_start": False}

    def ask(folder: Path, event: Event) -> None:
        if isinstance(event, events.Step) and event.step in (2, 4):
            for request in ("save", "preview") if event.step == 2 else ("stop",):
                control.ask(RunFolder(folder), request)  # type: ignore[arg-type]

    (folder,) = train(config(tiny_base, pictures, preview=prompts), pictures.parent / "cache", show=ask)
    run = RunFolder.open(folder)
    assert run.state().stage == "interrupted"
    assert isinstance(events.read(run.events)[-1], events.Halted), "it says that it was asked to"
    assert [each.step for each in told(folder, events.Preview)] == [3]
    assert [path.name for path in run.adapters()] == ["anna-00000003.safetensors", "anna-00000005.safetensors"]


@pytest.mark.parametrize(
    ("save", "steps"),
    [
        ({"every_steps": 2}, [2, 4]),
        ({"every_epochs": 1}, [3]),
        ({"every_minutes": 1e-6}, [1, 2, 3, 4, 5]),
        ({"every_steps": 1, "keep": 2}, [4, 5]),
    ],
    ids=["steps", "epochs", "minutes", "the newest two"],
)
def test_adapters_are_saved_when_asked_and_kept_as_long(
    tiny_base: Path, pictures: Path, save: dict[str, object], steps: list[int]
) -> None:
    (folder,) = train(config(tiny_base, pictures, save={"proof": "off", **save}), pictures.parent / "cache")
    run = RunFolder.open(folder)
    assert [path.name for path in run.adapters()] == [f"anna-{step:08d}.safetensors" for step in steps]
    assert len(list(run.checkpoints.iterdir())) == 2
    assert run.final.is_file()


def test_validation_is_measured_with_the_same_noise_every_time(tiny_base: Path, pictures: Path) -> None:
    held_out = forks.pictures(pictures.parent / "held out", count=3)
    sets = [{"path": str(pictures)}, {"path": str(held_out), "role": "validation"}]
    (folder,) = train(
        config(tiny_base, pictures, data={"sets": sets}, validation={"every_steps": 3, "timesteps": [100, 900]}),
        pictures.parent / "cache",
    )
    found = told(folder, events.Validated)
    assert [each.step for each in found] == [3, 6]
    assert set(found[0].losses) == {"100", "900"}


def test_regularization_pictures_count_as_much_as_asked(tiny_base: Path, pictures: Path) -> None:
    general = forks.pictures(pictures.parent / "general", count=3)
    sets = [{"path": str(pictures)}, {"path": str(general), "role": "regularization"}]
    (folder,) = train(
        config(tiny_base, pictures, data={"sets": sets}, objective={"prior_weight": 0.0}, train={"epochs": 1}),
        pictures.parent / "cache",
    )
    losses = [each.loss for each in told(folder, events.Step)]
    assert len(losses) == 10
    assert sum(loss == 0.0 for loss in losses) == 5


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_and_resumes(tiny_base: Path, pictures: Path, precision: str) -> None:
    cache, model = pictures.parent / "cache", {"path": str(tiny_base), "precision": precision}
    (folder,) = train(config(tiny_base, pictures, model=model), cache)
    train(config(tiny_base, pictures, model=model, train={"steps": 8}), cache)
    steps = told(folder, events.Step)
    assert len(steps) == 8
    assert all(each.loss is not None and each.loss < 10 for each in steps)


def test_live_augmentation_encodes_at_each_visit_and_keeps_nothing(tiny_base: Path, pictures: Path) -> None:
    cache = pictures.parent / "cache"
    data = {"sets": [{"path": str(pictures)}], "augment": {"random_crop": True, "color": 0.5, "flip": True}}
    (folder,) = train(config(tiny_base, pictures, data=data), cache)
    assert told(folder, events.Finished)
    assert not [entry for entry in Store(cache).entries() if entry.kind == "latents"]


def test_every_schedule_and_ema_go_through(tiny_base: Path, pictures: Path) -> None:
    optim = {"schedule": {"kind": "warmup-stable-decay", "warmup": 2, "decay": 2}, "ema": {}, "learning_rate": 1e-3}
    (folder,) = train(config(tiny_base, pictures, optim=optim), pictures.parent / "cache")
    rates = [each.rates["unet"] for each in told(folder, events.Step)]
    assert rates[0] == pytest.approx(5e-4)
    assert rates[2] == pytest.approx(1e-3)
    assert rates[-1] < 1e-3


def test_numbers_that_stop_being_finite_end_the_run_and_reach_no_file(tiny_base: Path, pictures: Path) -> None:
    wild = config(
        tiny_base,
        pictures,
        optim={"learning_rate": 100.0, "clip": 0.0, "optimizer": {"eps": 1e-8}},
        train={"steps": 200},
        save={"every_steps": 2, "proof": "off", "precision": "fp32"},
    )
    with pytest.raises(DivergedError, match="learning_rate"):
        train(wild, pictures.parent / "cache")
    folder = pictures.parent / "runs" / "anna"
    assert told(folder, events.Failed)[-1].code.startswith("E-NUM")
    for path in folder.rglob("*.safetensors"):
        assert all(value.isfinite().all() for value in load_file(path).values())


def test_bad_data_stops_the_run_before_the_model_loads(tiny_base: Path, tmp_path: Path) -> None:
    empty = tmp_path / "pictures"
    empty.mkdir()
    with pytest.raises(DataError):
        train(config(tiny_base, empty), tmp_path / "cache")
    events_told = {each.kind for each in impasto.history(tmp_path / "runs" / "anna")}
    assert "failed" in events_told
    assert not any(each.name == "load" for each in told(tmp_path / "runs" / "anna", events.Phase))


def test_a_wrong_base_is_named_for_what_it_is(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"model_index\.json"):
        train(config(pictures, pictures), tmp_path / "cache")


def test_a_drawn_sample_shows_the_adapter(tiny_base: Path, pictures: Path) -> None:
    (folder,) = train(config(tiny_base, pictures, optim={"learning_rate": 0.05}), pictures.parent / "cache")
    prompt, model = Prompt(text="a thing", steps=2), Model(path=str(tiny_base))
    plain, ridden = (
        sample.draw(model, prompt, adapters=each, out=pictures.parent / f"{len(each)}.png")
        for each in ([], [(folder / "anna.safetensors", 1.0)])
    )
    assert plain.read_bytes() != ridden.read_bytes()


def test_the_record_tells_versions_device_and_fingerprints(tiny_base: Path, pictures: Path) -> None:
    (folder,) = train(config(tiny_base, pictures), pictures.parent / "cache")
    record = json.loads((folder / "record.json").read_text())
    assert record["libraries"]["torch"]
    assert record["device"] == "cpu"
    assert record["pictures"]["train"] == 5
    assert len(record["base"]["sha256"]) == 64

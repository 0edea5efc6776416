"""Settings of OneTrainer and ai-toolkit become settings of here, as far as it is documented what they mean."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from impasto.__main__ import main
from impasto.compat import aitoolkit, nested, onetrainer, reading, written, yaml_text
from impasto.compat.translate import Translation, translate
from impasto.errors import ConfigError
from tests.compat import examples

OTHERS = [each for each in examples.FILES if each.parent.name in ("onetrainer", "aitoolkit")]
ODD = ["", None, False, True, 0.5, -3, "1", "text", "2,3", [], ["a"]]


@pytest.fixture(autouse=True)
def _among_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(examples.HERE)


def _onetrainer(**values: Any) -> Translation:
    return translate(onetrainer.read({"model_type": "STABLE_DIFFUSION_XL_10_BASE", **values}, "form.json"))


def _aitoolkit(text: str) -> Translation:
    return translate(aitoolkit.read(yaml_text.parse(text, "job.yaml"), "job.yaml"))


def _process(text: str) -> Translation:
    return _aitoolkit(f"job: extension\nconfig:\n  name: x\n  process:\n  - type: sd_trainer\n{text}")


def _what(made: Translation, name: str) -> tuple[str, str]:
    (found,) = [each for each in made.results if each.name == name]
    return found.outcome, found.reason


@pytest.mark.parametrize("path", OTHERS, ids=examples.name)
def test_every_value_of_a_file_is_told_of(path: Path) -> None:
    made = examples.imported(path)
    text = path.read_text("utf-8")
    held = json.loads(text) if path.suffix == ".json" else yaml_text.parse(text, path.name)
    if aitoolkit.is_one(held):
        held = held["config"]["process"][0]
    assert len(list(nested.names(held))) > 10
    assert not set(nested.names(held)) - {each.name for each in made.results}


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("kind", ["STABLE_DIFFUSION_15", "STABLE_DIFFUSION_XL_10_BASE", "FLUX_DEV_1", "WUERSTCHEN_2"])
def test_any_value_of_any_name_of_onetrainer_is_told_of(value: object, kind: str) -> None:
    _any_value("onetrainer", value, lambda values: onetrainer.read({**values, "model_type": kind}, "form.json"))


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("base", ["sdxl", "sd3", "flux", "wan21"])
def test_any_value_of_any_name_of_aitoolkit_is_told_of(value: object, base: str) -> None:
    def read(values: dict[str, Any]) -> Any:
        values.setdefault("model", {})["arch"] = base
        return aitoolkit.read({"job": "train", "config": {"process": [{**values, "type": "sd_trainer"}]}}, "job.yaml")

    _any_value("ai-toolkit", value, read)


def _any_value(program: Any, value: object, read: Any) -> None:
    rows = [each.name for each in nested.words(program) if "*" not in each.name and each.name.count("[]") <= 1]
    whole = [each for each in rows if not any(more.startswith((f"{each}.", f"{each}[")) for more in rows)]
    recipe = read(_laid_out(whole, value))
    asked = {given.name for given in recipe.args.values()}
    made = translate(recipe)
    assert len(asked) > 60
    assert not asked - {each.name for each in made.results}
    assert written.document(made)


def _laid_out(rows: list[str], value: object) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for row in rows:
        place = values
        *above, last = row.split(".")
        for part in above:
            name, is_list, _ = part.partition("[]")
            inner = place.setdefault(name, [{}] if is_list else {})
            place = inner[0] if is_list else inner
        place.setdefault(last, value)
    return values


def test_there_are_examples_of_both() -> None:
    assert [each.parent.name for each in OTHERS].count("onetrainer") >= 5
    assert [each.parent.name for each in OTHERS].count("aitoolkit") >= 4


@pytest.mark.parametrize("program", nested.TITLES)
def test_the_table_has_each_name_once_and_a_reason_for_what_is_settled(program: Any) -> None:
    rows = nested.words(program)
    assert len({each.name for each in rows}) == len(rows)
    assert not [each.name for each in rows if each.verdict not in ("read", "same", "better", "lost")]
    assert not [each.name for each in rows if each.verdict != "read" and not each.reason]


def test_names_that_nobody_knows_are_listed_with_the_nearest() -> None:
    assert _what(_onetrainer(lora_rnk=8), "lora_rnk") == (
        "unknown", "no name of OneTrainer that is known here; the nearest one is lora_rank",
    )  # fmt: skip
    assert _what(_process("    netwrk: 3"), "netwrk") == ("unknown", "no name of ai-toolkit that is known here")


def test_what_is_not_documented_is_not_guessed() -> None:
    made = _onetrainer(
        timestep_distribution="HEAVY_TAIL", noising_weight=1.0, learning_rate_scheduler="COSINE_WITH_RESTARTS"
    )
    assert {each.name for each in made.of("lost")} >= {
        "timestep_distribution", "noising_weight", "learning_rate_scheduler",
    }  # fmt: skip
    assert "timesteps" not in made.values.get("objective", {})
    made = _process("    train: {timestep_type: weighted, snr_gamma: 5}\n    model: {is_flux: true}")
    assert {"train.timestep_type", "train.snr_gamma"} <= {each.name for each in made.of("lost")}


def test_text_encoders_have_their_own_rates_and_one_moment_to_stop() -> None:
    part = {"train": True, "stop_training_after": 5, "stop_training_after_unit": "EPOCH"}
    made = _onetrainer(epochs=20, learning_rate=1e-4, text_encoder={**part, "learning_rate": 1e-5}, text_encoder_2=part)
    assert made.config.optim.text_encoder_learning_rate == (1e-5, 1e-4)
    assert made.config.train.text_encoder_until == 0.25
    off = {"train": False}
    made = _onetrainer(text_encoder=off, text_encoder_2=off)
    assert made.values["adapter"]["targets"] == {"text_encoder": False}


def test_an_average_that_moves_every_few_steps_is_as_slow_at_each() -> None:
    made = _onetrainer(ema="GPU", ema_decay=0.99, ema_update_step_interval=5)
    assert made.config.optim.ema is not None
    assert made.config.optim.ema.decay**5 == pytest.approx(0.99)


def test_resolutions_of_aitoolkit_are_sets_that_see_each_picture() -> None:
    made = _process("    datasets:\n    - {folder_path: 10_a, resolution: [512, 768]}")
    assert [(each.path.name, each.repeats, each.resolution) for each in made.config.data.sets] == [
        ("10_a", 1, 512), ("10_a", 1, 768),
    ]  # fmt: skip
    assert made.config.data.buckets.upscale is False


def test_older_files_are_read_by_their_own_names() -> None:
    made = _onetrainer(optimizer="PRODIGY", weight_decay=0.02, train_unet=True, learning_rate=1.0)
    assert made.config.optim.optimizer.model_dump()["weight_decay"] == 0.02
    assert {"optimizer", "weight_decay", "train_unet"} <= {each.name for each in made.results}


BAD: list[tuple[str, str, str]] = [
    ('{"training_method": "FINE_TUNE", "model_type": "STABLE_DIFFUSION_15"}', "E-IMP-003", ""),
    ("job: extension\nconfig:\n  process:\n  - type: slider\n", "E-IMP-003", ""),
    ("job: extension\nconfig:\n  process: []\n", "E-IMP-003", ""),
    ("job: extension\nconfig: 3\n", "E-IMP-001", ""),
    ("config:\n  lr: 3\n", "E-IMP-001", ""),
    ("job: extension\nconfig:\n  name: [\n", "E-IMP-002", ":4:"),
    ("job: a\njob: b\nconfig: {process: []}\n", "E-IMP-002", ":2:"),
    ("job: &a [1, 2]\nconfig: {process: [*a, *a]}\n", "E-IMP-002", ":2"),
    ("job: !!python/object/apply:os.system [id]\nconfig: {process: []}\n", "E-IMP-002", ":1:"),
    ("job: x\nconfig: " + "[" * 3000 + "\n", "E-IMP-002", ""),
    ("job: x\nconfig:\n" + "\n".join(" " * at + "a:" for at in range(1, 1200)), "E-IMP-002", ""),
    ("job: x\nconfig: {process: [], 2020-13-45: 1}\n: :\n", "E-IMP-002", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "place"), BAD, ids=range(len(BAD)))
def test_what_cannot_be_read_says_where(tmp_path: Path, text: str, code: str, place: str) -> None:
    path = tmp_path / "file.txt"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        reading.read(path)
    (problem,) = caught.value.problems
    assert problem.code == code
    assert place in problem.where


def test_keys_to_services_never_reach_a_file() -> None:
    made = _onetrainer(secrets={"huggingface_token": "hf_" + "a" * 30}, cloud={"api_key": "0123456789"})
    for text in (written.document(made), written.report(made), json.dumps(written.described(made))):
        assert "hf_a" not in text
        assert "0123456789" not in text


def test_the_command_reads_them_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "my.toml"
    assert main(["import", "aitoolkit/flux.yaml", "--out", str(out)]) == 0
    assert "a settings file of ai-toolkit" in capsys.readouterr().out
    assert 'trigger_phrase = "l1ghth0use"' in out.read_text("utf-8")
    assert main(["import", "onetrainer/sdxl-person.json", "--strict"]) == 2
    assert "E-IMP-005 zzz_from_a_fork" in capsys.readouterr().err


def test_an_import_of_yaml_leaves_torch_alone() -> None:
    code = "import sys; from impasto.__main__ import main as run; run(['import', 'aitoolkit/flux.yaml'])"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_parts_that_older_files_name_otherwise_are_told_of() -> None:
    made = _onetrainer(model_type="FLUX_DEV_1", prior={"train": True, "learning_rate": 1e-4})
    assert {"prior.train", "prior.learning_rate"} <= {each.name for each in made.of("lost")}
    made = _process("    train: {train_text_encoder: true}\n    model: {is_flux: true}")
    assert _what(made, "train.train_text_encoder")[0] == "lost"

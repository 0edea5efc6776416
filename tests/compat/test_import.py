"""Settings of kohya_ss and sd-scripts become settings of here, and no value gets lost on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from impasto import config
from impasto.__main__ import main
from impasto.compat import gui, prompts, reading, written
from impasto.compat.command import split
from impasto.compat.tables import flags, gui_keys
from impasto.compat.translate import Translation, translate
from impasto.errors import ConfigError
from tests.compat import examples


@pytest.fixture(autouse=True)
def _among_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(examples.HERE)


def _line(*words: str, exact: bool = False) -> Translation:
    given = ("accelerate", "launch", "train_network.py", *words)
    return translate(reading.of_words(given, "line", Path.cwd()), exact=exact)


def _gui(**values: Any) -> Translation:
    return translate(gui.read({"LoRA_type": "Standard", **values}, "form.json"))


def _what(made: Translation, name: str) -> tuple[str, str]:
    (found,) = [each for each in made.results if each.name == name]
    return found.outcome, found.reason


@pytest.mark.parametrize("path", examples.FILES, ids=examples.name)
def test_an_example_becomes_the_settings_that_were_written_for_it(path: Path) -> None:
    wanted = examples.expected(path).read_text("utf-8")
    assert examples.document(path) == wanted
    made = examples.imported(path)
    read, _ = config.read(examples.expected(path))
    whole, _ = config.build(made.values, (), config.Source(), examples.expected(path).parent)
    assert read == whole


def test_there_are_examples_of_every_kind() -> None:
    kinds = [path.parent.name for path in examples.FILES]
    assert kinds.count("gui") >= 25
    assert kinds.count("toml") >= 15
    assert kinds.count("command") == 15
    held = [json.loads(path.read_text("utf-8"))["LoRA_type"] for path in examples.FILES if path.parent.name == "gui"]
    assert set(gui.TYPES) - set(held) == {"Anima", "HunyuanImage-2.1"}
    assert set(held) - set(gui.TYPES) == {"LoCon"}


@pytest.mark.parametrize("path", [each for each in examples.FILES if each.parent.name == "gui"], ids=examples.name)
def test_every_key_of_a_file_is_told_of(path: Path) -> None:
    told = {each.name.partition(" ")[0] for each in examples.imported(path).results}
    assert not set(json.loads(path.read_text("utf-8"))) - told


@pytest.mark.parametrize("value", ["", None, False, True, 0, 1, 0.5, "1", "0.5", "text", "2,3", []], ids=repr)
@pytest.mark.parametrize("base", ["sdxl", "flux1_checkbox", "sd3_checkbox", "file_path"])
def test_any_value_of_any_key_is_told_of(value: object, base: str) -> None:
    values = {key: value for key in gui_keys() if key not in ("LoRA_type", "additional_parameters", base)}
    for kind in ("Standard", "LyCORIS/LoKr") if base != "flux1_checkbox" else ("Flux1",):
        made = _gui(**{**values, base: True, "LoRA_type": kind})
        told = {each.name.partition(" ")[0] for each in made.results}
        assert not {key for key in values if key not in told}
        assert written.document(made)


@pytest.mark.parametrize("value", [True, "1", "0.5", "text", "1,2", "-3", "1e400", "100%"])
def test_any_value_of_any_option_is_told_of(value: str | bool) -> None:
    for name in flags():
        if name in ("config_file", "dataset_config", "sample_prompts"):
            continue
        try:
            made = _line(f"--{name}", *([] if value is True else [str(value)]))
        except ConfigError as error:
            assert {each.code for each in error.problems} == {"E-IMP-004"}  # noqa: PT017
            continue
        told = {each.name.split(" ")[0] for each in made.results}
        assert f"--{name}" in told or name.endswith("_args"), name


def test_a_number_that_is_none_is_left_out_and_the_rest_stands() -> None:
    made = _line("--network_dim", "eight", "--network_alpha", "4", "--seed", "1.5")
    assert _what(made, "--network_dim") == ("lost", "'eight' is no number")
    assert _what(made, "--seed")[0] == "lost"
    assert made.config.adapter.model_dump()["alpha"] == 4


def test_a_value_out_of_range_is_left_out_with_the_reason() -> None:
    made = _line("--network_dim", "8", "--clip_skip", "99")
    assert _what(made, "--clip_skip")[0] == "lost"
    assert made.config.model.clip_skip == 1


@pytest.mark.parametrize("algo", ["locon", "loha", "full", "diag-oft"])
def test_flux_has_no_convolutions_to_open(algo: str) -> None:
    """LyCORIS opens all of them where nothing is said; in FLUX.1 there are none, and its blocks are open anyway."""
    words = ("--network_module", "lycoris.kohya", "--network_dim", "8", "--network_args", f"algo={algo}", "conv_dim=4")
    given = ("accelerate", "launch", "flux_train_network.py", *words)
    made = translate(reading.of_words(given, "line", Path.cwd()), exact=False)
    adapter = made.config.adapter
    assert not adapter.opens_convolutions
    assert adapter.layers == "attention-mlp"


def test_unknown_words_are_listed_with_the_nearest_name() -> None:
    assert _what(_line("--netwrk_dim", "8"), "--netwrk_dim") == (
        "unknown", "unknown there too; the nearest name is network_dim",
    )  # fmt: skip
    assert _what(_gui(learnig_rate=1), "learnig_rate") == (
        "unknown", "unknown there too; the nearest name is learning_rate",
    )  # fmt: skip


def test_zeros_that_mean_something_arrive() -> None:
    made = _gui(max_grad_norm=0, prior_loss_weight=0.0, network_alpha=0, network_dim=8)
    assert made.config.optim.clip == 0
    assert made.config.objective.prior_weight == 0
    assert {each.name for each in made.results if "Q-G1" in each.quirks} == {
        "max_grad_norm", "prior_loss_weight", "network_alpha",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "steps", "epochs"),
    [
        ({"epoch": 5, "max_train_steps": 0}, None, 5),
        ({"epoch": 5, "max_train_steps": "100"}, 100, None),
        ({"epoch": 5, "max_train_steps": 100, "max_train_epochs": "3"}, None, 3),
        ({"epoch": 5}, None, 5),
        ({}, 1600, None),
    ],
)
def test_epochs_and_steps_of_the_form(values: dict[str, Any], steps: int | None, epochs: int | None) -> None:
    train = _gui(**values).config.train
    assert (train.steps, train.epochs) == (steps, epochs)


@pytest.mark.parametrize(
    ("values", "warmup"),
    [({"lr_warmup": 10}, 0.1), ({"lr_warmup": "7.5"}, 0), ({"lr_warmup": 10, "lr_warmup_steps": 30}, 30),
     ({"lr_warmup": ""}, 0), ({"lr_scheduler": "constant"}, 0), ({}, 0.1),
     ({"lr_warmup": 100, "max_train_steps": 50}, 50)],
)  # fmt: skip
def test_warm_up_is_a_percentage_in_the_form(values: dict[str, Any], warmup: float) -> None:
    assert _gui(**values).config.optim.schedule.warmup == warmup


def test_additional_parameters_go_before_the_form() -> None:
    made = _gui(network_dim=8, additional_parameters='--network_dim "16" --network_train_unet_only --max_grad_norm=0')
    assert made.values["adapter"]["rank"] == 16
    assert made.values["adapter"]["targets"] == {"text_encoder": False}
    assert made.config.optim.clip == 0


def test_text_decides_by_what_it_says() -> None:
    made = _line("--network_module", "lycoris.kohya", "--network_args", "algo=lokr", "decompose_both=False")
    assert made.config.adapter.model_dump()["decompose_both"] is False
    assert _what(made, "--network_args decompose_both")[0] == "better"


def test_exact_is_as_there_where_both_can_be_done() -> None:
    words = ("--enable_bucket", "--resolution", "512", "--masked_loss", "--network_dim", "4")
    plain, exact = _line(*words).config, _line(*words, exact=True).config
    assert (plain.data.buckets.rule, exact.data.buckets.rule) == ("log", "kohya")
    assert (plain.objective.mask.normalise, exact.objective.mask.normalise) == (True, False)
    assert (plain.save.precision, exact.save.precision) == ("fp16", "fp32")
    assert (plain.optim.learning_rate, exact.optim.learning_rate) == (1e-4, 2e-6)


def test_prompts_are_read_as_the_spec_has_them() -> None:
    line = "a cat --w 512 --h 768 --d 1 --l 7.5 --s 28 --n bad, worse --ss euler_a"
    assert prompts.of_line(line) == {
        "prompt": "a cat", "width": "512", "height": "768", "seed": "1", "scale": "7.5", "sample_steps": "28",
        "negative_prompt": "bad, worse", "sample_sampler": "euler_a",
    }  # fmt: skip
    assert prompts.of_line("n cat on a roof") == {"prompt": "n cat on a roof"}
    assert prompts.of_line("x --l -1 --d -1 -- w 5")["unknown"] == ["--l -1", "--d -1", "-- w 5"]
    assert [each["prompt"] for each in prompts.of_text("# no\n\na\n b ")] == ["a", "b"]
    table = {"prompt": {"width": 512, "subset": [{"prompt": "a"}, {"prompt": "b", "width": 64}]}}
    assert [each["width"] for each in prompts.of_table(table)] == [512, 64]


@pytest.mark.parametrize(
    ("shell", "line", "words"),
    [
        ("posix", r"""a "b c" 'd "e' f\ g --x="y z" # no""", ["a", "b c", 'd "e', "f g", "--x=y z"]),
        ("cmd", r"""a "C:\b c" D:\e 'f g' h=\"i""", ["a", r"C:\b c", r"D:\e", "'f", "g'", 'h="i']),
        ("powershell", """a 'C:\\b c' "d`"e" "" f""", ["a", "C:\\b c", 'd"e', "", "f"]),
    ],
)
def test_each_shell_splits_in_its_own_way(shell: str, line: str, words: list[str]) -> None:
    assert split(line, shell) == words


BAD: list[tuple[str, str, str]] = [
    ("{\n \"LoRA_type\": \"Standard\",\n  oops\n}", "E-IMP-002", ":3:3"),
    ("[model]\nnetwork_dim = = 3\n", "E-CFG-003", ":2:"),
    ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", "E-IMP-002", ""),
    ('{"nothing": 1}', "E-IMP-001", ""),
    ("[1, 2]", "E-IMP-001", ""),
    ("nothing = 1\n", "E-IMP-001", ""),
    ("accelerate launch fine_tune.py --x 1", "E-IMP-003", ""),
    ('accelerate launch train_network.py --a "open', "E-IMP-001", ""),
    ("a" * (1 << 21), "E-CFG-002", ""),
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


def test_keys_to_services_never_reach_a_file(tmp_path: Path) -> None:
    secret = "hf_" + "a" * 30
    made = _line("--huggingface_token", secret, "--output_name", secret, "--wandb_api_key", "0123456789")
    for text in (written.document(made), written.report(made), json.dumps(written.described(made))):
        assert secret not in text
        assert "0123456789" not in text


def test_the_command_writes_a_file_that_loads_and_tells_of_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my.toml"
    assert main(["import", "gui/standard.json", "--out", str(out)]) == 0
    report = capsys.readouterr().out
    assert "better (" in report
    assert "E-CFG-031 model.path" in report  # what is not here is listed, and no reason to stop
    assert config.load(out).name == "anna"
    assert main(["import", "gui/standard.json", "--out", str(out)]) == 2  # it is never overwritten


def test_a_whole_command_line_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["accelerate", "launch", "train_network.py", "--network_dim", "8", "--dataset_class", "mine.Pictures"]
    assert main(["import", "--json", "--", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "rank = 8" in told["toml"]
    assert {"name": "--dataset_class", "outcome": "not carried over"}.items() <= told["results"][-1].items()
    assert main(["import", "--strict", "--", *words]) == 2
    assert "E-IMP-005 --dataset_class" in capsys.readouterr().err


def test_silence_and_places_are_for_stable_diffusion_3_alone() -> None:
    words = ["--clip_l_dropout_rate", "0.1", "--t5_dropout_rate", "0.2", "--pos_emb_random_crop_rate", "0.3"]
    line = ("accelerate", "launch", "sd3_train_network.py", *words, "--enable_scaled_pos_embed")
    made = translate(reading.of_words(line, "line", Path.cwd())).config
    assert made.data.silence.chances == (0.1, 0.0, 0.2)
    assert (made.objective.places.anywhere, made.objective.places.scaled) == (0.3, True)
    other = _line(*words)
    assert other.config.data.silence.chances == (0.0, 0.0, 0.0)
    assert {each.name for each in other.of("lost")} == {each for each in words if each.startswith("--")}


def test_how_a_base_is_read_and_what_waits_on_the_host_come_along() -> None:
    model = _line("--cpu_offload_checkpointing", "--gradient_checkpointing", "--disable_mmap_load_safetensors").config
    assert (model.model.offload_checkpoints, model.model.reading) == (True, "plain")
    alone = _line("--cpu_offload_checkpointing", "--lowram")
    assert not alone.config.model.offload_checkpoints
    assert _what(alone, "--lowram")[0] == "better"


def test_a_recipes_trackers_come_along(tmp_path: Path) -> None:
    (tmp_path / "trackers.toml").write_text('[wandb]\nentity = "studio"\ntags = ["a"]\nresume = "never"\n')
    known = ["--output_name", "anna", "--logging_dir", "/logs", "--log_tracker_name", "loras", "--log_prefix", "xl-"]
    both = _line(*known, "--log_with", "all", "--log_tracker_config", str(tmp_path / "trackers.toml")).config.track
    assert both.to == ("tensorboard", "wandb")
    assert (both.project, both.name, str(both.folder)) == ("loras", "xl-anna", "/logs")
    assert both.options == {"entity": "studio", "tags": ("a",)}
    assert _line(*known).config.track.to == ("tensorboard",), "as there: a folder of logs alone is TensorBoard's"
    assert _line("--output_name", "anna", "--log_prefix", "xl-").config.track.to == ()
    named = _line(*known, "--log_with", "wandb", "--wandb_run_name", "third try").config.track
    assert (named.to, named.name, named.folder) == (("wandb",), "third try", None)


def test_exports_are_written_with_what_belongs_to_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted: Callable[[str], Path] = tmp_path.joinpath
    assert main(["import", "command/with-files-run.sh", "--out", str(wanted("my.toml"))]) == 0
    assert main(["export-kohya", str(wanted("my.toml")), "--as", "toml", "--out", str(wanted("there.toml"))]) == 0
    assert {each.name for each in tmp_path.iterdir()} == {
        "my.toml", "there.toml", "there-dataset.toml", "there-prompts.txt",
    }  # fmt: skip
    again = translate(reading.read(wanted("there.toml"))).config
    assert again.data.sets[0].repeats == 3
    assert [each.text for each in again.preview.prompts] == ["a red cat on a roof", "a dog"]
    capsys.readouterr()


def test_what_is_only_read_here_is_told_of(tmp_path: Path) -> None:
    for name in ("10_sks girl", "3_a_b", "rest"):
        (tmp_path / name).mkdir()
    (tmp_path / "loose.JPG").touch()
    (lost,) = _line("--train_data_dir", str(tmp_path)).of("lost")
    assert lost.reason.startswith("rest, loose.JPG in it would be read here")


def test_an_import_leaves_torch_alone() -> None:
    code = "import sys; from impasto.__main__ import main as run; run(['import', 'gui/flux.json'])"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def _scheduled(*words: str, steps: int = 100) -> tuple[dict[str, Any], tuple[str, str]]:
    name, *arguments = words
    more = ["--lr_scheduler_args", *arguments] if arguments else []
    made = _line("--max_train_steps", str(steps), "--lr_scheduler_type", name, *more)
    return made.config.optim.schedule.model_dump(exclude={"warmup"}), _what(made, "--lr_scheduler_type")


@pytest.mark.parametrize(
    ("words", "schedule"),
    [
        (["CosineAnnealingLR", "T_max=100"], {"kind": "cosine"}),
        (["CosineAnnealingLR", "T_max=100", "eta_min=2e-5"], {"kind": "cosine-minimum", "minimum": 0.2}),
        (["CosineAnnealingWarmRestarts", "T_0=25"], {"kind": "cosine-restarts", "cycles": 4}),
        (["PolynomialLR", "total_iters=100", "power=2"], {"kind": "polynomial", "power": 2}),
        (["torch.optim.lr_scheduler.StepLR", "step_size=40", "gamma=0.5"],
         {"kind": "piecewise-constant", "until": (40, 80), "factors": (1, 0.5, 0.25)}),
        (["MultiStepLR", "milestones=10,90"],
         {"kind": "piecewise-constant", "until": (10, 90), "factors": (1, 0.1, 0.01)}),
        (["pytorch_optimizer.REXScheduler"], {"kind": "rex"}),
    ],
)  # fmt: skip
def test_a_schedulers_class_becomes_the_schedule_that_does_the_same(words: list[str], schedule: dict[str, Any]) -> None:
    found, (outcome, _) = _scheduled(*words)
    assert (found, outcome) == (schedule, "same")


@pytest.mark.parametrize(
    ("words", "kind", "word"),
    [
        (["CosineAnnealingLR", "T_max=70"], "cosine", "over the whole run"),
        (["CosineAnnealingWarmRestarts", "T_0=30"], "cosine-restarts", "optim.schedule.cycles"),
        (["StepLR"], "constant", "piecewise-constant"),
        (["OneCycleLR", "max_lr=1e-3"], "cosine", "optim.schedule.warmup"),
        (["ReduceLROnPlateau", "patience=3"], "constant", "waits for a loss"),
        (["some.package.Secret"], "constant", "lr_scheduler counts"),
    ],
)
def test_where_none_does_the_report_names_the_nearest(words: list[str], kind: str, word: str) -> None:
    found, (outcome, reason) = _scheduled(*words)
    assert (found["kind"], outcome) == (kind, "lost")
    assert "never run code" in reason
    assert word in reason


@pytest.mark.parametrize(
    ("name", "rule", "decay"),
    [("DAdaptation", "adam", 0), ("DAdaptAdam", "adam", 0), ("DAdaptAdamPreprint", "adam", 0), ("DAdaptSGD", "sgd", 0),
     ("DAdaptAdaGrad", "adagrad", 0), ("DAdaptLion", "lion", 0), ("DAdaptAdan", "adan", 0.02),
     ("DAdaptAdanIP", "adan-ip", 0.02)],
)  # fmt: skip
def test_every_d_adaptation_has_its_rule_and_its_usual_decay(name: str, rule: str, decay: float) -> None:
    made = _line("--optimizer_type", name, "--optimizer_args", "d0=1e-5")
    optimizer = made.config.optim.optimizer.model_dump(include={"kind", "rule", "d0", "weight_decay"})
    assert optimizer == {"kind": "d-adaptation", "rule": rule, "d0": 1e-5, "weight_decay": decay}
    preprint = name in ("DAdaptation", "DAdaptAdamPreprint")
    assert ("preprint" in _what(made, "--optimizer_type")[1]) == preprint


def test_norms_of_a_denoiser_that_is_left_out_are_not_carried_over() -> None:
    words = (
        "--network_module",
        "lycoris.kohya",
        "--network_args",
        "train_norm=True",
        "--network_train_text_encoder_only",
    )
    made = _line(*words)
    assert _what(made, "--network_args train_norm") == ("lost", "norms are trained in the denoiser, which is left out")
    assert made.config.adapter.train_norm is False
    assert _line(*words[:-1]).config.adapter.train_norm is True


def test_a_decay_that_was_a_gradient_there_is_told_of() -> None:
    made = _line("--optimizer_type", "DAdaptAdam", "--optimizer_args", "weight_decay=0.1")
    assert _what(made, "optimizer_args decouple")[0] == "better"
    made = _line("--optimizer_type", "DAdaptAdam", "--optimizer_args", "weight_decay=0.1", "decouple=True")
    assert _what(made, "--optimizer_args decouple") == ("same", "always so")

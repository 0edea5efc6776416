"""The command line as a user meets it: help, mistakes, exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import impasto
from impasto.__main__ import main
from impasto.cli import main as commands
from impasto.cli import runs
from impasto.config import load
from impasto.errors import DataError, DeviceError, Problem, Stopped, UserError

COMMANDS = [
    "new", "train", "resume", "sweep", "runs", "show", "stop", "save", "preview", "sample", "compare", "votes", "diff",
    "fork", "rerun", "pack", "inspect", "weights", "cache", "layers", "plan", "plot", "import", "export-kohya",
    "explain", "schema", "doctor", "quickstart", "version", "queue", "worker", "score", "ui", "bench", "data",
]  # fmt: skip


def test_the_list_of_commands_is_complete() -> None:
    assert sorted(name for name in commands.app if not name.startswith("-")) == sorted(COMMANDS)


def test_no_help_imports_torch_and_each_is_there_at_once() -> None:
    program = f"""
import sys, time
from impasto.__main__ import main
for command in {COMMANDS!r}:
    begun = time.process_time()
    assert main([command, "--help"]) == 0, command
    assert time.process_time() - begun < 1.5, command
assert main(["--help"]) == main(["explain", "optim"]) == main(["schema"]) == main(["version"]) == 0
heavy = {{"torch", "diffusers", "transformers", "peft", "accelerate"}} & set(sys.modules)
assert not heavy, heavy
assert time.process_time() < 4, time.process_time()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", done.stdout, re.MULTILINE)


def test_help_fits_a_narrow_terminal_and_a_console_without_utf8() -> None:
    settings = {**os.environ, "COLUMNS": "20", "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    asked = [sys.executable, "-m", "impasto", "explain", "objective"]
    done = subprocess.run(asked, capture_output=True, timeout=120, env=settings, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    done.stdout.decode("cp1252")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_parameter_is_explained(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    entries = re.findall(r"^  ((?:--)?[A-Z-][\w. -]*?)(?:  +(.*)|\n {4,}(.*))$", capsys.readouterr().out, re.MULTILINE)
    assert all(there or below for _, there, below in entries), entries


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["trian"], 'Did you mean "train"?'),
        (["train", "--alow", "x"], "Did you mean --allow?"),
        (["train", "--allow"], "requires an argument"),
        (["train", "--restart", "--restart", "x"], ""),
        (["train"], "nothing to train is named"),
        (["train", "gone.toml"], "there is no file"),
        (["train", "gone"], "neither a file, nor a folder"),
        (["train", "--steps", "5"], "Unknown option"),
        (["resume"], "no run is named"),
        (["resume", "gone"], "there is no run gone"),
        (["show"], "requires an argument"),
        (["show", "gone"], "there is no run gone"),
        (["stop", "gone"], "there is no run gone"),
        (["sample"], "--prompt requires an argument"),
        (["sample", "--prompt", "x", "--steps", "many"], "many"),
        (["sample", "--prompt", "x", "--steps", "0"], "0 is out of range"),
        (["sample", "--prompt", "x", "--prompt", "y"], "prompt"),
        (["sample", "--prompt", "x", "--guidance", "nan"], "not a finite number"),
        (["sample", "--prompt", "x", "--sampler", "eulr"], "eulr"),
        (["sample", "--prompt", "x", "--adapter", "gone.safetensors:0.5"], "there is no adapter file"),
        (["cache", "lst"], 'Choose from: "list", "verify", "gc"'),
        (["cache", "gc", "--days", "-1"], "no number of days"),
        (["cache", "gc", "--days", "soon"], "soon"),
        (["explain", "optim.learning_rat"], "did you mean optim.learning_rate?"),
        (["explain", "learning_rate"], "did you mean optim.learning_rate?"),
        (["explain", "a", "b"], "b"),
        (["inspect"], "requires an argument"),
        (["new", "gone/deep/my.toml"], "there is no folder"),
        (["version", "--loud"], "--loud"),
    ],
)
def test_a_slip_on_the_command_line_ends_with_2_and_a_hint(
    line: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(line) == 2
    told = capsys.readouterr().err
    assert words in told
    assert all(re.match(r"E-C(LI|FG)-\d{3} .*: .* Fix: .", each) for each in told.splitlines()), told


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError(Problem("E-IMG-001", "a", "b", "c"), Problem("E-IMG-002", "a", "b", "c")), 3),
        (DeviceError(Problem("E-DEV-001", "a", "b", "c")), 9),
        (Stopped(130), 130),
        (Stopped(143), 143),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_end_has_its_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "app", lambda *_, **__: (_ for _ in ()).throw(error))
    assert main(["runs"]) == code
    told = capsys.readouterr().err
    assert "Traceback" not in told
    if isinstance(error, UserError):
        assert told.splitlines() == [str(problem) for problem in error.problems]


def test_a_defect_of_ours_leaves_a_report_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    error = ValueError("with hf_SECRETSECRETSECRET inside")
    monkeypatch.setattr(commands, "app", lambda *_, **__: (_ for _ in ()).throw(error))
    assert main(["runs", "hf_SECRETSECRETSECRET"]) == 1
    told = capsys.readouterr().err
    (report,) = tmp_path.iterdir()
    assert "this is a defect of impasto" in told
    assert str(report) in told
    assert "Traceback" not in told
    assert "Traceback" in report.read_text()
    assert "SECRET" not in told + report.read_text()


def test_debug_shows_where_an_error_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "gone", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_closed_pipe_is_no_defect() -> None:
    asked = f"{shlex.quote(sys.executable)} -m impasto schema | head -c 10"
    done = subprocess.run(asked, shell=True, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""


def test_letters_a_console_lacks_do_not_stop_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    assert main(["show", "größe漢"]) == 2
    assert b"gr\\xf6\\xdfe\\u6f22" in raw.getvalue()


def test_the_first_file_of_settings_can_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it's pics").mkdir()
    assert main(["new", "sub.toml", "--data", "it's pics"]) == 0
    assert load("sub.toml").data.sets[0].path == tmp_path / "it's pics"
    assert 'path = "it\'s pics"' in Path("sub.toml").read_text()
    assert main(["new", "sub.toml"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["new"]) == 0
    assert load("impasto.toml").preview.prompts[0].text


def test_schema_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert "optim" in json.loads(capsys.readouterr().out)["properties"]


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == main(["--version"]) == 0
    assert capsys.readouterr().out.split() == [impasto.__version__] * 2


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (None, ["optim", "The pictures."]),
        ("optim", ["[optim]", "learning_rate", "default 1e-4"]),
        ("data.sets", ["[[data.sets]]", "required"]),
        ("data.sets.0.path", ["a path in quotes; required"]),
        ("optim.schedule", ['kind = "cosine"', "half a cosine"]),
        ("optim.schedule.warmup", ["of kind constant, linear"]),
        ("adapter.rank", ["a whole number > 0; default 4"]),
    ],
)
def test_explain_tells_meaning_choices_and_default(
    setting: str | None, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *([setting] if setting else [])]) == 0
    told = capsys.readouterr().out
    assert all(each in told for each in words), told


def test_doctor_reports_without_crashing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    for word in ("Python", "devices", "torch", "disk", "pocket model"):
        assert word in told


def test_the_cache_is_listed_verified_and_swept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from impasto.store import Store

    store = Store(tmp_path / "cache")
    store.put({"kind": "latents", "of": 1}, b"x" * 2000)
    folder = ["--folder", str(tmp_path / "cache")]
    assert main(["cache", "list", *folder]) == 0
    assert re.search(r"latents +1 +2\.\d+ KB", capsys.readouterr().out)
    assert main(["cache", "verify", *folder]) == 0
    (entry,) = store.entries()
    entry.path.write_bytes(b"bent")
    assert main(["cache", "verify", *folder]) == 6
    assert main(["cache", "gc", "--days", "0", *folder]) == 0


def test_an_empty_folder_of_runs_is_said_to_be_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--runs", str(tmp_path)]) == 0
    assert "no runs in" in capsys.readouterr().out
    assert Path("runs") == runs.RUNS

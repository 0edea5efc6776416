"""`impasto weights` as a user meets it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from impasto.__main__ import main
from impasto.adapters.config import Lora
from impasto.families.family import Family
from tests.weights.adapters import saved

COMMANDS = ["resize", "merge", "extract", "convert", "norms"]


@pytest.fixture
def at(tmp_path: Path, tiny_family: Family, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an adapter, entered."""
    saved(tmp_path / "a.safetensors", Lora(rank=4), tiny_family.targets())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_no_help_imports_torch() -> None:
    program = f"""
import sys
from impasto.__main__ import main
for command in {COMMANDS!r}:
    assert main(["weights", command, "--help"]) == 0, command
heavy = {{"torch", "diffusers", "transformers", "peft", "safetensors"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_parameter_is_explained(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", command, "--help"]) == 0
    entries = re.findall(r"^  ((?:--)?[A-Z-][\w. -]*?)(?:  +(.*)|\n {4,}(.*))$", capsys.readouterr().out, re.MULTILINE)
    assert entries
    assert all(there or below for _, there, below in entries), entries


def test_a_resize_prints_a_table_and_refuses_to_write_over_its_file(
    at: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "resize", "a.safetensors", "--rank", "2"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert re.match(r"block +layers +rank before +rank +energy kept", told[0])
    assert re.search(r"^all +\d+ +4 +2 +\d\d\.\d\d%$", told[-2])
    assert told[-1] == "written: a-resized.safetensors"
    assert main(["weights", "resize", "a.safetensors", "--rank", "2"]) == 2
    assert main(["weights", "resize", "a.safetensors", "--rank", "2", "--out", "a.safetensors"]) == 2
    assert capsys.readouterr().err.count("E-CFG-033") == 2


def test_the_share_of_a_norm_is_the_root_of_the_share_of_energy(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ranks = []
    for number, share in enumerate((["--frobenius", "0.9"], ["--energy", "0.81"], ["--energy", "0.9"])):
        assert main(["weights", "resize", "a.safetensors", *share, "--out", f"{number}.safetensors", "--json"]) == 0
        ranks.append([each["rank"] for each in json.loads(capsys.readouterr().out)["layers"]])
    assert ranks[0] == ranks[1] != ranks[2]


def test_the_ways_of_a_file(at: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = str(tiny_base)
    assert main(["weights", "merge", "a.safetensors", "a.safetensors:0.5", "--out", "b.safetensors"]) == 0
    assert main(["weights", "merge", "a.safetensors:0.5", "--into", base, "--out", "new", "--json"]) == 0
    assert main(["weights", "extract", "new", base, "--rank", "4", "--out", "c.safetensors"]) == 0
    assert main(["weights", "convert", "c.safetensors", "--to", "diffusers", "--base", base]) == 0
    assert main(["weights", "norms", "c-diffusers.safetensors", "--picture", "c.png"]) == 0
    assert main(["inspect", "c-diffusers.safetensors"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert "LoRA, Stable Diffusion 1.x, diffusers names" in told.out
    assert (at / "c.png").read_bytes().startswith(b"\x89PNG")
    assert main(["weights", "norms", "a.safetensors", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["layers"]) > 30


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["resize", "a.safetensors"], "nothing says which rank"),
        (["resize", "a.safetensors", "--rank", "0"], "--rank 0 is no rank"),
        (["resize", "a.safetensors", "--energy", "1.5"], "no share between 0 and 1"),
        (["resize", "a.safetensors", "--energy", "nan"], "no share between 0 and 1"),
        (["resize", "a.safetensors", "--energy", "0.9", "--frobenius", "0.9"], "the same"),
        (["resize", "a.safetensors", "--rank", "2", "--out", "gone/b.safetensors"], "there is no folder"),
        (["merge", "--out", "b.safetensors"], "no file is named"),
        (["merge", "a.safetensors"], "--out"),
        (["merge", "a.safetensors:inf", "--out", "b.safetensors"], "no such strength"),
        (["merge", "a.safetensors", "--into", "pocket", "--rank", "2", "--out", "b"], "merges exactly"),
        (["convert", "a.safetensors", "--to", "a1111"], "kohya"),
        (["rezise"], "resize"),
    ],
)
def test_a_slip_ends_with_2_and_a_hint(
    line: list[str], words: str, at: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", *line]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert re.match(r"E-C(LI|FG)-\d{3} .*: .* Fix: .", told)
    assert [each.name for each in at.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("command", [["resize", "--rank", "2"], ["convert", "--to", "diffusers"], ["norms"]])
def test_a_file_that_is_not_there_is_a_matter_of_the_file(
    at: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", *command, "gone.safetensors"]) == 7
    assert "E-MOD-001" in capsys.readouterr().err

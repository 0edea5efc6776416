"""Reading TOML: limits, encodings, the line of every key, and what is said of text that is not TOML."""

from __future__ import annotations

import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from impasto.config import load
from impasto.errors import ConfigError, Problem
from impasto.settings import toml
from tests.config import examples
from tests.config.test_problems import refused


@pytest.mark.parametrize(
    ("text", "code", "place", "words"),
    [
        ("name = “anna”", "003", ":1:8", "curly"),
        ("a = 1\nname\u00a0= 1", "003", ":2:5", "no-break space"),
        ('[[data.sets]]\npath = "C:\\Users\\new"', "003", ":2", "single quotes"),
        ('[[data.sets]]\npath = "D:\\pics"', "003", ":2", "single quotes"),
        ("name = anna", "003", ":1:8", 'name = "…"'),
        ("name: anna", "003", ":1", "name = …"),
        ("name =", "003", ":1", "give name a value"),
        ("[adapter.targets]\nunet = True", "003", ":2", "small letters"),
        ("ema = none", "003", ":1", "delete its line"),
        ("name = 'a\n", "003", ":1:10", "end the text with '"),
        ("[optim", "003", ":1", ""),
        ("= 3", "003", ":1", "key = value"),
        ("just words", "003", ":1", "key = value"),
        ("a = 1 b = 2", "003", ":1", ""),
        ("a = [1, 2", "003", ":1", ""),
        ("a = 012", "003", ":1", ""),
        ("a = " + "9" * 5000, "003", ":1", "shorten"),
        ("name = 'a'\nname = 'b'", "004", ":2 name", "first in line 1"),
        ("[optim]\nclip = 1\n[optim]\nclip = 2", "004", ":3 optim", "first in line 1"),
        ("[optim]\nema.decay = 0.9\nema = 3", "004", ":3 optim.ema", "first in line 2"),
        ("[a]\nb = {c = 1, c = 2}", "004", ":2 a.b.c", "first in line 2"),
        ("[[data.sets]]\npath = 'a'\n[[data.sets]]\npath = 'b'\npath = 'c'", "004", ":5 data.sets.1.path", "line 4"),
        ("a = " + "[" * 100_000, "002", "", "nested"),
        ("a = " + "{b = " * 40 + "1" + "}" * 40, "002", "", "nested"),
        (".".join("a" * 500) + " = 1", "002", "", "nested"),
        ("a." * 200_000 + "a = 1", "002", "", "nested"),
        ("[" + "a." * 200_000 + "a]", "002", "", "nested"),
        ("x = [" + "1," * 30_000 + "]", "002", "", "20000 values"),
        ("#" * (1 << 20) + "#", "002", "", "1 MiB"),
        ('{"a": 1}', "005", "", "JSON"),
        ("job: extension\nconfig:\n  name: x\n", "005", "", "YAML"),
        ("a: 1\nb: 2\n", "005", "", "YAML"),
        (examples.KOHYA, "005", "", "network_alpha, network_dim"),
        (examples.KOHYA_DATASET, "005", "", "sd-scripts"),
        (examples.KOHYA_JSON, "005", "", "sd-scripts"),
        (examples.ONE_TRAINER, "005", "", "OneTrainer"),
        (examples.AI_TOOLKIT, "005", "", "ai-toolkit"),
    ],
)
def test_text_that_cannot_be_read_is_explained(tmp_path: Path, text: str, code: str, place: str, words: str) -> None:
    begun = time.process_time()
    (problem,) = refused(tmp_path, text)
    assert time.process_time() - begun < 1
    assert problem.code == f"E-CFG-{code}"
    assert problem.where.removeprefix(str(tmp_path / "my.toml")).startswith(place)
    assert words in f"{problem.what} {problem.fix}"
    assert problem.fix


WEARING = [
    '"""',
    "'''",
    '"',
    "'",
    '"""\\"',
    "[\"'",
    "'''\"\"\"",
    "\\",
    '"\\',
    "a",
    "9",
    " ",
    "a ",
    "a.",
    '"".',
    "hf_",
    "-",
]
WEARING += ["eyJ-", "sk-", "a:", "a=", "\n", "{", "[", "#", "é"]


@pytest.mark.parametrize("piece", WEARING)
@pytest.mark.parametrize("text", ["a = {}", "{}", "a = '{}'", "[{}", '"{}" = 1'])
def test_long_repetitions_are_answered_in_no_time(tmp_path: Path, text: str, piece: str) -> None:
    path = tmp_path / "long.toml"
    path.write_text(text.replace("{}", piece * ((1 << 18) // len(piece))), "utf-8")
    begun = time.process_time()
    with suppress(ConfigError):  # some are empty files
        load(path)
    assert time.process_time() - begun < 1.5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name = '\xff\xfe\xfd'", "not UTF-8"),
        ("name = 'a'".encode("utf-16"), "UTF-16"),
        (b"\x00" * 100, ""),
        (b"a = 1\n\xe4 = 2", "not UTF-8"),
    ],
)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (problem,) = refused(tmp_path, content)
    assert words in problem.what


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbfname = 'anna'\r\n[adapter]\r\nrank = 8\r\n")
    assert (load(path).name, load(path).adapter.rank) == ("anna", 8)
    path.write_bytes(b"\xef\xbb\xbfname = 'anna'\r\n[adapter]\r\nrank = 0\r\n")
    with pytest.raises(ConfigError, match=r"windows\.toml:3 adapter\.rank"):
        load(path)


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    assert "is a folder" in _why(tmp_path)
    assert f"there is no file {tmp_path / 'gone.toml'}" in _why(tmp_path / "gone.toml")
    assert "E-CFG-001" in _why(tmp_path / "\0")
    assert "E-CFG-001" in _why(tmp_path / ("x" * 5000))
    if sys.platform != "win32":
        assert "there is no file" in _why(Path("/dev/zero"))


def _why(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value)


PLACES = """\
name = "x"  # [not.a.section]
"quoted key".inner = 2
train.steps = 5
text = \"\"\"
[no]
sets = 3\"\"\"

[data]  # comment
resolution = [
  512,
  768,
]
captions = {prefix = "a]b", extensions = [".a", ".b"]}
[[data.sets]]
path = 'a'
[data.sets.augment]
flip = true
[[data.sets]]
path = '''b''' # x
[optim."schedule"]
kind = 'linear'
"""


def test_every_key_has_its_line() -> None:
    lines = toml.parse(PLACES, "x").lines
    expected = {
        ("name",): 1, ("quoted key", "inner"): 2, ("train",): 3, ("train", "steps"): 3, ("text",): 4, ("data",): 8,
        ("data", "resolution"): 9, ("data", "resolution", 0): 10, ("data", "resolution", 1): 11,
        ("data", "captions", "prefix"): 13, ("data", "captions", "extensions", 1): 13, ("data", "sets"): 14,
        ("data", "sets", 0): 14, ("data", "sets", 0, "path"): 15, ("data", "sets", 0, "augment", "flip"): 17,
        ("data", "sets", 1): 18, ("data", "sets", 1, "path"): 19, ("optim", "schedule"): 20,
        ("optim", "schedule", "kind"): 21,
    }  # fmt: skip
    assert {key: lines.get(key) for key in expected} == expected


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(values=examples.CONFIGS)
def test_a_value_written_as_toml_reads_back_the_same(values: dict[str, object]) -> None:
    text = "\n".join(f"{toml.bare_or_quoted(name)} = {toml.literal(each)}" for name, each in values.items())
    assert tomllib.loads(text) == values


def test_problems_know_files_by_the_name_the_user_gave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.toml").write_text("nam = 1")
    with pytest.raises(ConfigError) as caught:
        load("my.toml")
    problem: Problem = caught.value.problems[0]
    assert problem.where == "my.toml:1 nam"

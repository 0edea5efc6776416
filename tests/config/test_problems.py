"""Every mistake is named with its place, what is expected and what to write instead."""

from __future__ import annotations

import random
import re
import string
from pathlib import Path

import pytest

from impasto.config import RunConfig, load
from impasto.errors import ConfigError, Problem
from impasto.settings import fields


def refused(folder: Path, text: str | bytes, *overrides: str) -> list[Problem]:
    path = folder / "my.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    return list(caught.value.problems)


BAD = [
    # text, code, key, part of the fix
    ('[optim]\nlearning_rate = "1e-4x"', "012", "optim.learning_rate", "learning_rate = 1e-4"),
    ('[optim]\nlearning_rate = "1e-4"', "012", "optim.learning_rate", "learning_rate = 1e-4"),
    ('[optim]\nlearning_rate = "0,0002"', "012", "optim.learning_rate", "learning_rate = 2e-4"),
    ("[optim]\nlearning_rate = -1", "013", "optim.learning_rate", "learning_rate = "),
    ("[optim]\nlearning_rate = 1e30", "013", "optim.learning_rate", "learning_rate = 100"),
    ("[optim]\nlearning_rate = nan", "013", "optim.learning_rate", "learning_rate = 1e-4"),
    ("[optim]\nlearning_rate = inf", "013", "optim.learning_rate", "learning_rate = 1e-4"),
    ("[optim]\nlearning_rate = true", "012", "optim.learning_rate", "learning_rate = 1e-4"),
    ("[optim]\nlearning_rate = [1e-4]", "012", "optim.learning_rate", "learning_rate = 1e-4"),
    ("[optim]\nlearning_rate = 1979-05-27", "012", "optim.learning_rate", "learning_rate = 1e-4"),
    ("[optim]\nlearning_rat = 3e-4", "010", "optim.learning_rat", "learning_rate = 3e-4"),
    ("[optim]\nlearning-rate = 3e-4", "010", "optim.learning-rate", "learning_rate = 3e-4"),
    ("[optim]\nLearning_Rate = 3e-4", "010", "optim.Learning_Rate", "learning_rate = 3e-4"),
    ("[train]\nlearning_rate = 3e-4", "010", "train.learning_rate", "move the line under [optim]"),
    ("rank = 8", "010", "rank", "move the line under [adapter]"),
    ("[adapter]\nname = 'anna'", "010", "adapter.name", "move the line to the top of the file"),
    ("[optim]\nlr = 3e-4", "010", "optim.lr", "learning_rate = 3e-4 under [optim]"),
    ("[adapter]\nnetwork_dim = 16", "010", "adapter.network_dim", "rank = 16 under [adapter]"),
    ("[data]\nimage_dir = 'x'", "010", "data.image_dir", 'path = "x" under [[data.sets]]'),
    ("[optmi]\nclip = 1", "010", "optmi", "optim = "),
    ("[optim]\nzzzzzzzz = 1", "010", "optim.zzzzzzzz", "delete it"),
    ("[optim]\n\"a b\" = 1", "010", 'optim."a b"', "delete it"),
    ("[optim.schedule]\nkind = 'linear'\ncycles = 2", "010", "optim.schedule.cycles", 'kind = "cosine-restarts"'),
    ("[model]\ntrust_remote_code = true", "009", "model.trust_remote_code", "delete it"),
    ("hooks = ['os.system']", "009", "hooks", "delete it"),
    ("[optim.schedule]\nkind = 'cosin'", "014", "optim.schedule.kind", 'kind = "cosine"'),
    ("[optim.schedule]\nkind = 'warp'", "014", "optim.schedule.kind", 'kind = "constant"'),
    ("[optim.schedule]\nkind = 7", "014", "optim.schedule.kind", 'kind = "constant"'),
    ("[adapter]\nkind = 'lorra'", "014", "adapter.kind", 'kind = "lora"'),
    ("[save]\nprecision = 'FP16'", "014", "save.precision", 'precision = "fp16"'),
    ("[model]\nmax_tokens = 77", "014", "model.max_tokens", "max_tokens = 75"),
    ("[adapter.targets]\nunet = 'true'", "012", "adapter.targets.unet", "unet = true"),
    ("[adapter.targets]\nunet = 0", "012", "adapter.targets.unet", "unet = false"),
    ("[adapter]\nrank = 8.0", "012", "adapter.rank", "rank = 8"),
    ("[adapter]\nrank = true", "012", "adapter.rank", "rank = 4"),
    ("[adapter]\nrank = 0", "013", "adapter.rank", "rank = 4"),
    ("[adapter]\nrank = " + "9" * 4000, "013", "adapter.rank", "rank = 4"),
    ("[data]\nbatch_size = 0", "013", "data.batch_size", "batch_size = 1"),
    ("[train]\nsteps = 0", "013", "train.steps", "steps = 1"),
    ("[train]\nseed = -1", "013", "train.seed", "seed = 0"),
    ("[train]\nseed = 9223372036854775808", "013", "train.seed", "seed = 0"),
    ("[data]\nresolution = 512.5", "012", "data.resolution", "resolution = 512"),
    ("[data]\nresolution = [512]", "015", "data.resolution", "resolution = "),
    ("[data]\nresolution = 4", "013", "data.resolution", "resolution = 8"),
    ("[data.captions]\nextensions = '.txt'", "012", "data.captions.extensions", 'extensions = [".txt"]'),
    ("[data.captions]\nextensions = ['.txt', 'cap']", "015", "data.captions.extensions.1", '[".txt", ".cap"]'),
    ("[validation]\ntimesteps = []", "015", "validation.timesteps", "timesteps = [0]"),
    ("[validation]\ntimesteps = [5, 5000]", "013", "validation.timesteps.1", "timesteps = [5, "),
    ("name = 'a/b'", "015", "name", 'name = "a-b"'),
    ("name = ''", "015", "name", "name = "),
    ("name = 7", "012", "name", 'name = "7"'),
    ("name = '" + "x" * 300 + "'", "015", "name", "name = "),
    ("model = 'pocket'", "012", "model", "[model]"),
    ("adapter = 8", "012", "adapter", "[adapter]"),
    ("[data]\nsets = 'pics'", "012", "data.sets", "[[data.sets]]"),
    ("[data]\nsets = ['pics']", "012", "data.sets.0", "[data.sets"),
    ("[[data.sets]]\nrole = 'train'", "011", "data.sets.0.path", 'path = "pictures"'),
    ("[[data.sets]]\npath = ''", "015", "data.sets.0.path", "path = "),
    ('[[data.sets]]\npath = "C:\\temp\\new"', "015", "data.sets.0.path", "single quotes"),
    ("[device]\nname = 'gpu'", "015", "device.name", 'name = "auto"'),
    ("[train]\nsteps = 5\nepochs = 5", "016", "train", "delete one"),
    ("[objective.timesteps]\nlow = 9\nhigh = 9", "016", "objective.timesteps", "low must be smaller"),
    ("[optim.schedule]\nkind = 'piecewise-constant'\nuntil = [9]", "016", "optim.schedule", "impasto explain"),
    ("version = 2", "007", "version", "newer"),
    ("version = 0", "014", "version", "version = 1"),
    ("[output]\ncomment = 'hf_abcdefghijklmnopqrst'", "008", "output.comment", "delete it"),
    ("wandb_key = '0123456789'", "008", "wandb_key", "delete it"),
    ("[output]\nfolder = [1]", "012", "output.folder", 'folder = "runs"'),
    ("preview = [1, 2]", "012", "preview", "[preview]"),
    ("[[preview.prompts]]\ntext = 1.5", "012", "preview.prompts.0.text", 'text = "1.5"'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "key", "fix"), BAD, ids=[f"{row[2]}-{at}" for at, row in enumerate(BAD)])
def test_a_mistake_is_named_with_place_and_fix(tmp_path: Path, text: str, code: str, key: str, fix: str) -> None:
    (problem,) = refused(tmp_path, text)
    line = _line_of(text, key)
    assert (problem.code, problem.where) == (f"E-CFG-{code}", f"{tmp_path / 'my.toml'}:{line} {key}")
    assert fix in problem.fix
    assert code in ("007", "008", "009", "016") or "xpected" in problem.what or problem.what


def _line_of(text: str, key: str) -> int:
    """The last line with the key's name; for a section, its header."""
    name = key.split(".")[-2] if key[-1].isdigit() and "." in key else key.split(".")[-1]
    found = [number for number, line in enumerate(text.split("\n"), 1) if name in line]
    return found[-1] if found else 1


def test_the_message_reads_as_promised(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, '# my\n[optim]\n\nlearning_rate = "1e-4x"')
    assert str(problem).removeprefix("E-CFG-012 ").removeprefix(str(tmp_path)) == (
        '/my.toml:4 optim.learning_rate: "1e-4x" is not a number. Expected a number from 0 to 100, for instance 1e-4. '
        "Fix: learning_rate = 1e-4"
    )


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = "nam = 'a'\n[optim]\nlearning_rate = 'x'\nclip = -1\n[[data.sets]]\nrole = 'trian'\npth = 'a'\n"
    text += "[adapter]\nrank = 0"
    found = {(each.code, each.where.split()[-1]) for each in refused(tmp_path, text, "train.seed=x", "foo")}
    assert found == {
        ("E-CFG-010", "nam"), ("E-CFG-012", "optim.learning_rate"), ("E-CFG-013", "optim.clip"),
        ("E-CFG-014", "data.sets.0.role"), ("E-CFG-010", "data.sets.0.pth"), ("E-CFG-013", "adapter.rank"),
        ("E-CFG-012", "train.seed"), ("E-CFG-006", "line"),
    }  # fmt: skip


def test_a_misspelt_required_key_is_one_mistake_and_not_two(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, "[[data.sets]]\npht = 'a'")
    assert problem.fix == 'path = "a"'


def test_thousands_of_mistakes_are_cut_short(tmp_path: Path) -> None:
    problems = refused(tmp_path, "".join(f"key{number} = 1\n" for number in range(10_000)))
    assert len(problems) == 51
    assert problems[-1].code == "E-CFG-017"


@pytest.mark.parametrize(
    "text",
    [
        "[output]\ncomment = 'my hf_SECRETSECRETSECRET key'",
        "[output]\ncomment = ['hf_SECRETSECRETSECRET']",
        "hf_SECRETSECRETSECRET = 1",
        "api_key = 'SECRET'",
        "[model]\nprecision = 'hf_SECRETSECRETSECRET'",
        "[data]\nsets = [{path = 'a', token = 'SECRET'}, {role = 'hf_SECRETSECRETSECRET'}]",
        "name = hf_SECRETSECRETSECRET",
        "name = 'sk-SECRETSECRETSECRET",
        "[train]\nsteps = {a = 'ghp_SECRETSECRETSECRETSECRET'}",
    ],
)
def test_a_secret_is_refused_and_never_repeated(tmp_path: Path, text: str) -> None:
    assert "SECRET" not in "\n".join(map(str, refused(tmp_path, text)))
    with pytest.raises(ConfigError) as caught:
        load(None, [f"output.comment={text}", f"{text}", "name=x hf_SECRETSECRETSECRET"])
    assert "SECRETSECRET" not in str(caught.value)


def test_a_commit_hash_in_a_path_is_no_secret(tmp_path: Path) -> None:
    path = f"/cache/snapshots/{'0123456789' * 4}"
    assert load(None, [f"model.path={path}"]).model.path == path


def test_messages_hold_no_control_characters(tmp_path: Path) -> None:
    for problem in refused(tmp_path, '"\\u001b[31mred" = 1\n[optim]\nclip = "\\u001b]0;x\\u0007\\n\\u202e"'):
        assert str(problem).isprintable()


def test_nineteen_of_twenty_typing_errors_are_understood(tmp_path: Path) -> None:
    rng = random.Random(1)
    keys = [(path, setting) for path, setting in fields.walk(RunConfig) if "*" not in path and setting.name != "kind"]
    keys = [
        (path, each) for path, each in keys if not fields.inner(each.shape) and fields.kind_of(each.section) is None
    ]
    understood, total = 0, 300
    for _ in range(total):
        path, setting = rng.choice(keys)
        typed = _mistyped(setting.name, rng)
        if typed in fields.settings(setting.section):
            typed = setting.name + "x"
        problems = refused(tmp_path, f"{'.'.join([*path[:-1], typed])} = {1 if setting.name != 'x' else 0}")
        understood += any(f"Expected {setting.name}" in each.what for each in problems)
    assert understood >= 0.95 * total, f"{understood} of {total}"


def _mistyped(name: str, rng: random.Random) -> str:
    at = rng.randrange(len(name))
    letter = rng.choice(string.ascii_lowercase)
    slips = [
        name[:at] + name[at + 1 :],
        name[:at] + letter + name[at:],
        name[:at] + letter + name[at + 1 :],
        name[:at] + name[at + 1 : at + 2] + name[at] + name[at + 2 :],
        name[:at] + name[at] + name[at:],
    ]
    found = [each for each in slips if each != name and re.fullmatch("[a-z0-9_]+", each)]
    return rng.choice(found)


def test_a_number_that_is_no_multiple_is_refused_with_the_nearest_that_is(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, "[model]\nvae_tile = 500\n")
    assert problem.code == "E-CFG-013"
    assert "500 is not a multiple of 64" in problem.what
    assert "from 64 to 4096, a multiple of 64" in problem.what
    assert problem.fix == "vae_tile = 512"

"""Loading, overriding, writing out and comparing settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from impasto.config import RunConfig, base_key, differences, dump, fingerprint, json_schema, load, read
from impasto.data.config import Data, Dataset
from impasto.engine.config import Train
from impasto.errors import ConfigError
from impasto.optim.schedule_config import Cosine, PiecewiseConstant
from impasto.settings import fields


def test_no_file_and_no_overrides_are_the_defaults() -> None:
    assert load(None) == RunConfig()


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("adapter.rank=8", "adapter.rank", 8),
        ("adapter.rank = 8", "adapter.rank", 8),
        ("optim.learning_rate=3e-4", "optim.learning_rate", 3e-4),
        ("optim.learning_rate=1", "optim.learning_rate", 1.0),
        ("adapter.targets.unet=false", "adapter.targets.unet", False),
        ("name=anna", "name", "anna"),
        ("name=2024", "name", "2024"),
        ("name=true", "name", "true"),
        ("name=2024-01-01", "name", "2024-01-01"),
        ('name="anna"', "name", "anna"),
        ("name=a = b", "name", "a = b"),
        ("output.comment=x # y", "output.comment", "x # y"),
        ("output.comment=[1, 2]", "output.comment", "[1, 2]"),
        ("data.resolution=[512, 768]", "data.resolution", (512, 768)),
        ('data.captions.extensions=[".tags"]', "data.captions.extensions", (".tags",)),
        ("optim.schedule.kind=cosine", "optim.schedule", Cosine()),
        ('optim.schedule={kind = "cosine", warmup = 0.1}', "optim.schedule", Cosine(warmup=0.1)),
        ("output.title=", "output.title", ""),
        ("optim.ema={}", "optim.ema.decay", 0.999),
    ],
)
def test_an_override_is_toml_or_plain_text(override: str, key: str, value: object) -> None:
    assert _at(load(None, [override]), key) == value


def test_overrides_build_lists_of_sections() -> None:
    config = load(None, ["data.sets.0.path=/a", "data.sets.1.path=/b", "data.sets.1.repeats=3"])
    assert config.data.sets == (Dataset(path=Path("/a")), Dataset(path=Path("/b"), repeats=3))


def test_overrides_are_laid_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("[train]\nepochs = 5\n[[data.sets]]\npath = '/a'\nrepeats = 2\n[optim.schedule]\nkind = 'linear'\n")
    config = load(path, ["data.sets.0.repeats=7", "train.epochs=", "train.steps=9", "optim.schedule.warmup=3"])
    assert config.data.sets == (Dataset(path=Path("/a"), repeats=7),)
    assert (config.train.steps, config.train.epochs, config.optim.schedule.warmup) == (9, None, 3)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("adapter.rnk=8", "command line adapter.rnk: there is no setting rnk"),
        ("adapter.rnk=8", "Fix: adapter.rank=8"),
        ("adapter.rank=x", 'command line adapter.rank: "x" is not a whole number'),
        ("adapter.rank=1.0", "Fix: adapter.rank=1"),
        ("adapter.rank", "not a setting with a value"),
        ("=8", "not a setting with a value"),
        ("adapter..rank=8", "not a setting with a value"),
        ("adapter.rank.x=8", "adapter.rank: {x = 8} is not a whole number"),
        ("adapter.0=8", "[8] is not a section"),
        ("data.sets.2.path=x", "the next one is data.sets.0"),
        ("data.sets.first.path=x", "data.sets: {first = "),
        ("a." * 40 + "b=1", "not a setting with a value"),
        ("optim.clip=" + "9" * 10_000, "is not a number"),
        ("optim.clip=" + "[" * 10_000, "is not a number"),
        ("optim.clip=1\nname = 'x'", "is not a number"),
        ("name=\udcff", "not UTF-8"),
    ],
)
def test_an_override_that_does_not_fit_is_explained(override: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, [override])
    assert words in str(caught.value)


def test_a_setting_may_be_overridden_only_once() -> None:
    with pytest.raises(ConfigError, match=r"adapter\.rank is given twice"):
        load(None, ["adapter.rank=8", "adapter.rank=16"])


def test_paths_in_a_file_start_at_its_folder_and_overrides_at_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    path = there / "my.toml"
    path.write_text("[model]\npath = 'base'\n[data.captions]\nmetadata = 'c.jsonl'\n[[data.sets]]\npath = '../pics'\n")
    config = load(path, ["data.sets.1.path=more", "output.folder=out"])
    assert [each.path for each in config.data.sets] == [tmp_path / "pics", here / "more"]
    assert config.data.captions.metadata == there / "c.jsonl"
    assert config.model.path == str(there / "base")
    assert config.output.folder == Path("out")
    assert load(path, ["model.path=pocket"]).model.path == "pocket"


def test_neither_steps_nor_epochs_means_ten_epochs() -> None:
    assert (Train().steps, Train().epochs) == (None, 10)
    assert (Train(steps=7).steps, Train(steps=7).epochs) == (7, None)


def test_a_dump_writes_every_setting_with_its_meaning() -> None:
    config = RunConfig(
        data=Data(sets=(Dataset(path=Path("/a")),)), optim=RunConfig().optim.model_copy(update={"schedule": Cosine()})
    )
    text = dump(config)
    for path, setting in fields.walk(RunConfig):
        here = len(path) == 2 and isinstance(getattr(config, path[0]), setting.section)  # not of another kind
        if here and not fields.inner(setting.shape):
            assert f"\n{path[1]} = " in text or f"\n# {path[1]} =" in text
            assert " ".join(setting.help.split()[:4]) in text
    assert "[optim.schedule]\n\n# Steps over which" in text
    assert "[[data.sets]]" in text
    assert "# [optim.ema]" in text


def test_equal_settings_have_one_fingerprint_however_they_were_given(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("[adapter]\nrank = 8\n[train]\nepochs = 10\n")
    assert fingerprint(load(path)) == fingerprint(load(None, ["adapter.rank=8"]))
    assert fingerprint(load(path)) != fingerprint(RunConfig())


def test_members_of_a_fleet_share_model_and_device_and_nothing_else() -> None:
    one, other = load(None, ["adapter.rank=8", "name=a"]), load(None, ["train.seed=3", "optim.clip=0"])
    assert base_key(one) == base_key(other)
    assert base_key(one) != base_key(load(None, ["model.clip_skip=2"]))
    assert base_key(one) != base_key(load(None, ["device.name=cpu"]))


def test_differences_name_what_changed() -> None:
    old = load(None, ["data.sets.0.path=/a", "optim.schedule.kind=linear"])
    new = load(None, ["data.sets.0.path=/b", "adapter.rank=8", 'optim.schedule={kind = "polynomial", power = 2}'])
    assert differences(old, new) == [
        ("data.sets.0.path", Path("/a"), Path("/b")),
        ("adapter.rank", 4, 8),
        ("optim.schedule.kind", "linear", "polynomial"),
        ("optim.schedule.power", None, 2.0),
    ]
    assert differences(old, old) == []


def test_the_source_tells_where_a_setting_was_given(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("[adapter]\nrank = 8\n")
    _, source = read(path, ["train.steps=5"])
    assert source.place(("adapter", "rank")) == f"{path}:2 adapter.rank"
    assert source.place(("adapter", "alpha")) == f"{path}:1 adapter.alpha"
    assert source.place(("train", "steps")) == "command line train.steps"
    assert source.place(("optim", "clip")) == f"{path} optim.clip"


def test_the_json_schema_explains_every_setting() -> None:
    schema = json_schema()
    assert schema["properties"]["optim"]["$ref"] == "#/$defs/Optim"
    assert "how far a step goes" in schema["$defs"]["Optim"]["properties"]["learning_rate"]["description"].lower()
    assert set(schema["properties"]) == set(RunConfig.model_fields)


def test_every_setting_has_a_meaning_and_every_pattern_has_words() -> None:
    for path, setting in fields.walk(RunConfig):
        assert setting.help or setting.name == "kind", ".".join(path)
        assert "of the form" not in fields.expected(setting.shape), ".".join(path)
        assert not isinstance(setting.shape, fields.Anything), ".".join(path)


def test_options_of_a_librarys_optimizer_survive_a_dump(tmp_path: Path) -> None:
    chosen = (
        'optim.optimizer={kind="library", name="CAME", options={betas=[0.9, 0.99, 0.999], eps1=1e-9, foreach=false}}'
    )
    config = load(None, [chosen])
    (tmp_path / "dumped.toml").write_text(dump(config))
    assert load(tmp_path / "dumped.toml") == config
    assert config.optim.optimizer.options == {"betas": (0.9, 0.99, 0.999), "eps1": 1e-9, "foreach": False}  # type: ignore[union-attr]


def test_schedules_of_every_kind_survive_a_dump(tmp_path: Path) -> None:
    path = tmp_path / "again.toml"
    for section in fields.inner(fields.settings(type(RunConfig().optim))["schedule"].shape):
        schedule = section() if section is not PiecewiseConstant else PiecewiseConstant(until=(5,), factors=(1.0, 0.5))
        config = RunConfig(optim=RunConfig().optim.model_copy(update={"schedule": schedule}))
        path.write_text(dump(config), "utf-8")
        assert load(path) == config


PAYLOADS = [
    "__import__('os').system('touch canary')", "${HOME}", "$(touch canary)", "`touch canary`", "%(x)s", "{{7*7}}",
    "!!python/object/apply:os.system ['touch canary']", "os.system", "impasto.__main__:main", "file:///etc/passwd",
    "{0.__class__.__mro__}", "; touch canary", "| touch canary", "exec('touch canary')", "lambda: 0", "~/canary",
]  # fmt: skip


@contextmanager
def _watched() -> Iterator[list[str]]:
    seen: list[str] = []
    watching = [True]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching[0] and event in (
            "import",
            "exec",
            "compile",
            "os.system",
            "os.exec",
            "subprocess.Popen",
            "os.posix_spawn",
        ):
            seen.append(f"{event} {arguments[:1]}")

    sys.addaudithook(hook)  # it cannot be taken away again, only told to look elsewhere
    try:
        yield seen
    finally:
        watching[0] = False


def test_settings_never_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keys = [
        "name",
        "model.path",
        "output.comment",
        "data.captions.prefix",
        "trust_remote_code",
        "adapter.kind",
        "hooks",
    ]
    _try(tmp_path / "warm.toml", "name", "x")
    with _watched() as seen:
        for key in keys:
            for payload in PAYLOADS:
                _try(tmp_path / "my.toml", key, payload)
    assert seen == []
    assert sorted(os.listdir(tmp_path)) == ["my.toml", "warm.toml"]


def _try(path: Path, key: str, payload: str) -> None:
    path.write_text(f"{key} = '''{payload}'''\n'{payload.replace(chr(39), '')}' = 1\n")
    for attempt in (lambda: load(path), lambda: dump(load(None, [f"{key}={payload}"]))):
        with suppress(ConfigError):
            attempt()


def _at(config: object, key: str) -> object:
    for part in key.split("."):
        config = getattr(config, part)
    return config

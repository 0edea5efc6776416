"""A file as a form holds it: every setting there and back, and the text edited where something changed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from impasto import config
from impasto.errors import ConfigError
from impasto.schema import Section
from impasto.settings import fields, form, toml
from impasto.settings.fields import Kinds, Listing, Setting, Shape, Table
from impasto.settings.suggest import example
from impasto.sweeps.config import WholeFile

Case = tuple[str, dict[str, Any]]


def every_setting(section: type[Section], above: str = "", needed: dict[str, Any] | None = None) -> Iterator[Case]:
    """Each plain field of the schema by its dotted name, with the kinds that must be chosen for it to be there."""
    for setting in fields.settings(section).values():
        name = f"{above}{setting.name}"
        inner = list(_sections(setting.shape))
        at = f"{name}.0." if isinstance(setting.shape, Listing) else f"{name}."
        for kind, each in inner:
            chosen = {**(needed or {}), **({f"{at}kind": kind} if kind else {})}
            yield from every_setting(each, at, chosen)
        if not inner and setting.name != "kind":
            yield name, {**(needed or {}), name: _value(setting)}


def _sections(shape: Shape) -> Iterator[tuple[str | None, type[Section]]]:
    match shape:
        case Table(section):
            yield None, section
        case Kinds(sections):
            yield from sections
        case Listing(item):
            yield from _sections(item)
        case fields.Either(options):
            for each in options:
                yield from _sections(each)


def _value(setting: Setting) -> Any:
    return (
        {"optim.learning_rate": [1e-5, 1e-4]} if isinstance(setting.shape, fields.Options) else example(setting.shape)
    )


CASES = dict(every_setting(WholeFile))


def test_the_schema_has_many_settings() -> None:
    assert len(CASES) > 150


@pytest.mark.parametrize("name", CASES)
def test_every_setting_goes_from_form_to_file_to_form(name: str) -> None:
    values = CASES[name]
    text = form.written(form.nested(values), WholeFile)
    assert form.flat(toml.parse(text, "").values, WholeFile) == values
    assert form.edited(text, values, WholeFile) == text


@pytest.mark.parametrize("name", CASES)
def test_every_setting_is_put_into_a_file_that_keeps_its_comments_and_taken_out_again(name: str) -> None:
    values = CASES[name]
    text = '# mine\nversion = 1  # first\n\n# the pictures\n[[data.sets]]\npath = "a"\n\n[preview]\nevery_epochs = 2\n'
    before = form.flat(toml.parse(text, "").values, WholeFile)
    made = form.edited(text, {**before, **values}, WholeFile)
    assert form.flat(toml.parse(made, "").values, WholeFile) == {**before, **values}
    assert "# the pictures\n" in made
    back = form.edited(made, before, WholeFile)
    assert form.flat(toml.parse(back, "").values, WholeFile) == before
    assert "# mine" in back
    assert "# the pictures\n" in back


def test_any_settings_together_are_the_same_after_the_form() -> None:
    dice = random.Random(7)
    for _ in range(150):
        values: dict[str, Any] = {}
        for name in dice.sample(sorted(CASES), 12):
            if not any(key in values and values[key] != value for key, value in CASES[name].items()):
                values |= CASES[name]
        text = ""
        for size in (4, len(values) // 2, len(values)):
            wanted = dict(dice.sample(sorted(values.items()), min(size, len(values))))
            text = form.edited(text, wanted, WholeFile)
            assert form.flat(toml.parse(text, "").values, WholeFile) == form.flat(form.nested(wanted), WholeFile)


def test_a_whole_config_is_the_same_after_the_form() -> None:
    before = config.load(None, ['data.sets.0.path="a"', "adapter.kind=lokr", 'preview.prompts.0.text="x"'])
    values = form.flat(toml.parse(config.dump(before), "").values, WholeFile)
    text = form.written(form.nested(values), WholeFile)
    assert config.build(toml.parse(text, "").values, (), config.Source(), config.Path.cwd())[0] == before


FILE = """\
# my settings

name = "anna"  # who

[[data.sets]]
path = "a"
repeats = 2   # twice

# the second one
[[data.sets]]
path = "b"

[adapter]
rank = 8
targets = { text_encoder = false, layers = "attention" }
# the end
"""


def _changed(**changes: Any) -> str:
    values = form.flat(toml.parse(FILE, "").values, WholeFile)
    return form.edited(FILE, {**values, **{key.replace("__", "."): each for key, each in changes.items()}}, WholeFile)


def test_a_changed_value_changes_nothing_else() -> None:
    assert _changed(data__sets__0__repeats=3) == FILE.replace("repeats = 2 ", "repeats = 3 ")
    assert _changed(adapter__targets__text_encoder=True) == FILE.replace("false", "true")


def test_a_value_that_is_not_set_any_more_loses_its_line() -> None:
    assert _changed(data__sets__0__repeats=None) == FILE.replace("repeats = 2   # twice\n", "")


def test_a_new_value_stands_in_its_section() -> None:
    assert _changed(adapter__alpha=4) == FILE.replace('"attention" }\n', '"attention" }\nalpha = 4\n')
    assert _changed(data__sets__0__weight=0.5) == FILE.replace("# twice\n", "# twice\nweight = 0.5\n")
    assert _changed(version=1) == FILE.replace("# who\n", "# who\nversion = 1\n")


def test_a_new_item_of_a_list_stands_behind_the_others() -> None:
    made = _changed(data__sets__2__path="c", data__sets__0__captions__shuffle=True)
    assert [each["path"] for each in toml.parse(made, "").values["data"]["sets"]] == ["a", "b", "c"]
    assert toml.parse(made, "").values["data"]["sets"][0]["captions"] == {"shuffle": True}
    assert "# twice" in made
    assert "# the second one" in made


def test_the_last_item_of_a_list_goes_with_its_header() -> None:
    made = _changed(data__sets__1__path=None)
    assert made.count("[[data.sets]]") == 1
    assert "# twice" in made


def test_an_unknown_name_stays_so_that_its_problem_is_seen() -> None:
    text = "[adapter]\nrnk = 3\n"
    assert form.flat(toml.parse(text, "").values, WholeFile) == {"adapter.rnk": 3}
    assert "rnk = 3" in form.edited(text, {"adapter.rnk": 3, "adapter.rank": 2}, WholeFile)


def test_an_empty_table_is_a_value() -> None:
    text = form.edited("", {"adapter.blocks": {}}, WholeFile)
    assert form.flat(toml.parse(text, "").values, WholeFile) == {"adapter.blocks": {}}
    filled = form.edited(text, {"adapter.blocks.ranks": [1]}, WholeFile)
    assert form.flat(toml.parse(filled, "").values, WholeFile) == {"adapter.blocks.ranks": [1]}


IMPOSSIBLE: list[dict[str, Any]] = [
    {"a": 1, "a.b": 2}, {"a.b": 1, "a": 2}, {"": 1}, {"a..b": 1}, {"0": 1}, {"a.0": 1, "a.b": 2}, {'"': 1},
    {".".join("a" * 40): 1},
]  # fmt: skip


@pytest.mark.parametrize("values", IMPOSSIBLE)
def test_names_that_cannot_be_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        form.edited("", values, WholeFile)


def test_the_comment_above_a_value_is_its_remark() -> None:
    text = "# file\n\n# why this\n# rank\nrank = 3\nalpha = 1\n"
    assert form.remarks(text) == {("rank",): "why this rank"}

"""Captions changed in bulk."""

from __future__ import annotations

import pytest

from impasto.data import retag
from impasto.data.retag import Edit
from impasto.errors import DataError

CAPTIONS = {"a": "anna, red hat, smile", "b": "anna,hat,smile", "c": "dog", "d": ""}


def changed(edit: Edit) -> dict[str, str]:
    counts = retag.counted(CAPTIONS.values())
    return {name: after for name, (_, after) in retag.edited(CAPTIONS, edit, counts).items()}


def test_text_is_replaced_in_the_captions_that_have_it() -> None:
    assert changed(Edit(find="hat", replace="cap")) == {"a": "anna, red cap, smile", "b": "anna,cap,smile"}
    assert changed(Edit(find="ANNA", replace="bob", case=False))["b"] == "bob,hat,smile"
    assert changed(Edit(find="ANNA", replace="bob")) == {}


def test_a_pattern_is_replaced_with_its_groups() -> None:
    assert changed(Edit(find=r"(red )?hat", replace=r"a \g<0>", regex=True)) == {
        "a": "anna, a red hat, smile", "b": "anna,a hat,smile"
    }  # fmt: skip


@pytest.mark.parametrize(("find", "replace"), [("(", ""), ("a", r"\9")])
def test_a_pattern_that_cannot_be_used_is_told(find: str, replace: str) -> None:
    with pytest.raises(DataError):
        changed(Edit(find=find, replace=replace, regex=True))


def test_a_pattern_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retag, "PATIENCE", 0.5)
    with pytest.raises(DataError, match="did not end"):
        retag.edited({"a": "a" * 40 + "!"}, Edit(find="(a+)+$", regex=True), {})


def test_tags_are_added_once_at_either_end_as_the_caption_joins_them() -> None:
    assert changed(Edit(add=("anna", "x"), at="start")) == {
        "a": "x, anna, red hat, smile", "b": "x,anna,hat,smile", "c": "anna, x, dog", "d": "anna, x"
    }  # fmt: skip
    assert changed(Edit(add=("smile",)))["c"] == "dog, smile"


def test_tags_are_taken_out_whole() -> None:
    assert changed(Edit(remove=("hat", "Dog"))) == {"b": "anna,smile"}
    assert changed(Edit(remove=("Dog",), case=False)) == {"c": ""}


def test_tags_are_sorted_behind_those_that_stay() -> None:
    assert retag.edited({"a": "z, b, a"}, Edit(sort="alphabet", keep=1), {})["a"][1] == "z, a, b"
    assert retag.edited({"a": "z, b, a"}, Edit(sort="count"), {"b": 5, "a": 2})["a"][1] == "b, a, z"
    assert retag.edited({"a": "a, b, a"}, Edit(unique=True), {})["a"][1] == "a, b"


def test_every_line_of_a_caption_is_changed() -> None:
    assert retag.edited({"a": "x, y\nx"}, Edit(remove=("x",)), {})["a"][1] == "y\n"


def test_tags_are_counted_and_those_that_stand_together() -> None:
    counts = retag.counted(CAPTIONS.values())
    assert counts == {"anna": 2, "smile": 2, "red hat": 1, "hat": 1, "dog": 1}
    assert retag.together(CAPTIONS.values(), counts)["anna", "smile"] == 2

"""What becomes of a caption at a visit."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impasto.data.captions import changes_per_visit, complete, variants, visited
from impasto.data.config import Captions


def many(caption: str, rules: Captions, count: int = 400) -> Counter[str]:
    return Counter(visited(caption, rules, Random(seed)) for seed in range(count))


def test_without_rules_a_caption_stays_to_the_letter() -> None:
    assert set(many("a,  b ,, c ", Captions())) == {"a,  b ,, c "}
    assert not changes_per_visit(Captions())


def test_prefix_and_suffix_stand_as_they_are() -> None:
    assert complete("a,b", Captions(prefix="P, ", suffix=", S")) == "P, a,b, S"


def test_shuffling_keeps_the_first_tags_and_all_tags() -> None:
    found = many("sks dog, a, b, c", Captions(shuffle=True, keep_tokens=1))
    assert len(found) == 6
    assert all(each.startswith("sks dog, ") for each in found)
    assert {tuple(sorted(each.split(", "))) for each in found} == {("a", "b", "c", "sks dog")}
    assert min(found.values()) > 30


def test_the_way_tags_are_separated_is_kept() -> None:
    assert set(many("a,b", Captions(shuffle=True))) == {"a,b", "b,a"}
    assert set(many("a, b", Captions(shuffle=True))) == {"a, b", "b, a"}
    assert set(many("a;b, c", Captions(shuffle=True, separator=";"))) == {"a;b, c", "b, c;a"}


def test_empty_tags_vanish() -> None:
    assert set(many("a,b,,c", Captions(shuffle=True, keep_tokens=2))) == {"a,b,c"}


def test_more_kept_tags_than_there_are_change_nothing() -> None:
    assert set(many("a, b", Captions(shuffle=True, tag_dropout=1.0, keep_tokens=9))) == {"a, b"}


def test_kept_tags_survive_every_dropout_of_tags() -> None:
    assert set(many("a,b,c,d", Captions(tag_dropout=1.0, keep_tokens=1))) == {"a"}


def test_tags_are_left_out_as_often_as_asked() -> None:
    found = many("a, b, c, d", Captions(tag_dropout=0.25), 2000)
    left = sum(len(caption.split(", ")) * count for caption, count in found.items() if caption)
    assert left / 2000 == pytest.approx(3.0, abs=0.1)


def test_words_are_left_out_as_often_as_asked_prefix_and_all() -> None:
    found = many("a", Captions(dropout=0.3, prefix="P "), 2000)
    assert set(found) == {"", "P a"}
    assert found[""] / 2000 == pytest.approx(0.3, abs=0.03)


def test_a_caption_of_a_visit_depends_on_its_dice_alone() -> None:
    rules = Captions(shuffle=True, tag_dropout=0.5, dropout=0.1)
    assert visited("a, b, c, d, e", rules, Random(3)) == visited("a, b, c, d, e", rules, Random(3))


rules = st.builds(
    Captions,
    shuffle=st.booleans(),
    keep_tokens=st.integers(0, 3),
    tag_dropout=st.sampled_from([0.0, 0.5, 1.0]),
    dropout=st.sampled_from([0.0, 0.5, 1.0]),
    prefix=st.sampled_from(["", "p, "]),
)


@settings(max_examples=60, deadline=None)
@given(rules, st.lists(st.sampled_from("abcd"), max_size=2).map(", ".join))
def test_variants_are_exactly_what_visits_show(rules: Captions, caption: str) -> None:
    found = variants(caption, rules, limit=1000)
    assert found is not None
    assert set(many(caption, rules, 1500)) == set(found)
    if not changes_per_visit(rules):
        assert len(found) == 1


def test_too_many_variants_are_not_listed() -> None:
    assert variants(", ".join("abcdefgh"), Captions(shuffle=True)) is None

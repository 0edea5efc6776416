"""What becomes of a caption at a visit."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impasto.data.captions import Moment, changes_per_visit, complete, variants, visited
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


# -- marks, wildcards, lines -------------------------------------------------------------------------------------------

MARKED = "a, b ||| c, d, e ||| f, g"


def test_tags_outside_of_the_marks_stay_in_place() -> None:
    found = many(MARKED, Captions(shuffle=True, keep_tokens_separator="|||"))
    assert len(found) == 6
    assert all(each.startswith("a, b, ") and each.endswith(", f, g") for each in found)
    assert set(many("a ||| b, c", Captions(tag_dropout=1.0, keep_tokens_separator="|||"))) == {"a"}
    assert set(many(MARKED, Captions(tag_dropout=1.0, keep_tokens_separator="|||"))) == {"a, b, f, g"}


def test_marks_never_stay_in_the_text() -> None:
    rules = Captions(keep_tokens_separator="|||")
    assert set(many(MARKED, rules)) == {"a, b, c, d, e, f, g"}
    assert set(many("a,b|||c|||d|||e", rules)) == {"a,b,c,d,e"}
    assert complete(MARKED, rules) == "a, b, c, d, e, f, g"
    assert set(many("no, mark ,here", rules)) == {"no, mark ,here"}


def test_tags_that_are_one_move_as_one_and_become_tags() -> None:
    rules = Captions(shuffle=True, secondary_separator=";;;")
    assert set(many("a, sky;;;cloud", rules)) == {"a, sky, cloud", "sky, cloud, a"}
    assert set(many("sky;;;cloud", Captions(secondary_separator=";;;"))) == {"sky,cloud"}
    assert set(many("a, b;;;c", Captions(tag_dropout=1.0, keep_tokens=1, secondary_separator=";;;"))) == {"a"}


def test_wildcards_fall_evenly_and_escaped_braces_stay() -> None:
    found = many("a {red|blue|} {{dog|cat}}", Captions(wildcards=True), 900)
    assert set(found) == {"a red {dog|cat}", "a blue {dog|cat}", "a  {dog|cat}"}
    assert min(found.values()) > 240
    assert set(many("a {red|blue} dog", Captions())) == {"a {red|blue} dog"}
    assert complete("{a|b} c", Captions(wildcards=True)) == "a c"


def test_each_visit_takes_another_line() -> None:
    found = many("one, a\ntwo, b\n", Captions(lines="random", prefix="sks, "), 600)
    assert set(found) == {"sks, one, a", "sks, two, b"}
    assert min(found.values()) > 240
    assert set(many("one\ntwo", Captions())) == {"one"}


def test_words_are_left_out_in_every_third_epoch() -> None:
    rules = Captions(dropout_every_epochs=3)
    assert [visited("a", rules, Random(0), Moment(epoch=epoch)) for epoch in range(6)] == ["a", "a", "", "a", "a", ""]
    assert variants("a", rules) == ("", "a")


@pytest.mark.parametrize(("step", "tags"), [(0, 1), (10, 1), (25, 3), (49, 4), (50, 5), (900, 5)])
@pytest.mark.parametrize("over", [50, 0.05])
def test_captions_grow_to_all_their_tags(step: int, tags: int, over: int | float) -> None:
    rules = Captions(tag_warmup=over, tag_warmup_from=1)
    assert visited("a, b, c, d, e", rules, Random(0), Moment(step, 1000)) == ", ".join("abcde"[:tags])


def test_a_warm_up_counts_loose_tags_and_drops_the_last_ones() -> None:
    rules = Captions(tag_warmup=100, tag_warmup_from=2, keep_tokens=1, shuffle=True)
    found = Counter(visited("sks, a, b, c", rules, Random(seed), Moment(0, 100)) for seed in range(100))
    assert set(found) == {"sks, a, b", "sks, b, a"}
    assert visited("sks", rules, Random(0), Moment(0, 100)) == "sks"


def test_prefix_and_suffix_are_as_sd_scripts_joins_them_if_written_so() -> None:
    assert complete("a,b", Captions(prefix="P, ", suffix=" , S")) == "P, a,b , S"


def test_marks_that_are_the_same_are_refused() -> None:
    with pytest.raises(ValueError, match="must differ"):
        Captions(separator=";", secondary_separator=";")


richer = st.builds(
    Captions,
    shuffle=st.booleans(),
    tag_dropout=st.sampled_from([0.0, 0.5]),
    dropout_every_epochs=st.sampled_from([None, 2]),
    wildcards=st.booleans(),
    lines=st.sampled_from(["first", "random"]),
    keep_tokens_separator=st.sampled_from(["", "|||"]),
    secondary_separator=st.sampled_from(["", ";;;"]),
    tag_warmup=st.sampled_from([None, 4]),
)


@settings(max_examples=60, deadline=None)
@given(richer, st.sampled_from(["a,{b|c}", "a ||| b, c ||| d", "a;;;b, c\nd", "{a|b}\nc, d", "", "a, {{b}}"]))
def test_richer_variants_are_exactly_what_visits_show(rules: Captions, caption: str) -> None:
    found = variants(caption, rules, limit=1000)
    assert found is not None
    moments = [Moment(step, 4, epoch) for step in range(5) for epoch in range(2)]
    assert {visited(caption, rules, Random(seed), moments[seed % 10]) for seed in range(3000)} == set(found)
    assert complete(caption, rules) in found
    if not changes_per_visit(rules):
        assert len(found) == 1


def test_too_many_wildcards_are_not_listed() -> None:
    assert variants("{a|b}" * 10, Captions(wildcards=True)) is None

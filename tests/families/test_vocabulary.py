"""CLIP's vocabulary comes with impasto, and captions are framed as each model learnt them."""

from __future__ import annotations

import pytest

from impasto.families import text


@pytest.mark.parametrize(
    ("caption", "ids"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("A Photo  OF a CAT", [320, 1125, 539, 320, 2368]),
        ("", []),
    ],
)
def test_the_vocabulary_is_clips(caption: str, ids: list[int]) -> None:
    tokenizer = text.own_tokenizer()
    assert len(tokenizer) == 49408
    (row,) = text.tokenize(tokenizer, [caption], 75).tolist()
    assert row == [[49406, *ids, 49407, *[49407] * (75 - len(ids))]]


def test_other_encoders_fill_up_with_zeros_behind_the_end_mark() -> None:
    windows = text.tokenize(text.own_tokenizer(), ["cat " * 80], 225, pad=0)[0].tolist()
    assert windows[0] == [49406, *[2368] * 75, 49407]
    assert windows[1] == [49406, *[2368] * 5, 49407, *[0] * 70]
    assert windows[2] == [49406, 49407, *[0] * 75]


def test_an_exclamation_mark_is_a_word_and_not_filling() -> None:
    assert text.tokenize(text.own_tokenizer(), ["hey!"], 75, pad=0)[0, 0, :4].tolist() == [49406, 2189, 256, 49407]

"""T5's vocabulary comes with impasto, and is counted without torch as training reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from impasto.errors import ModelFileError
from impasto.families import t5_tokens, text

SENTENCEPIECE = {
    "a photo of a cat": [3, 9, 1202, 13, 3, 9, 1712],
    "": [],
    "  two  spaces ": [192, 4856],
    "Ünïcödé ﬁ ½ №": [3, 14858, 29, 2, 75, 1872, 3764, 361, 209, 2, 357, 465],
    "日本語 text": [3, 2, 1499],
    "a\nnew\tline": [3, 9, 126, 689],
    "(word:1.3), [x], long_hair": [41, 6051, 10, 13606, 201, 784, 226, 13679, 307, 834, 19176],
    "don't  stop…": [278, 31, 17, 1190, 233],
}
"""What SentencePiece makes of texts with T5's own model file."""


@pytest.mark.parametrize("caption", SENTENCEPIECE)
def test_the_vocabulary_is_t5s(caption: str) -> None:
    assert t5_tokens.tokenizer().encode(caption).ids == [*SENTENCEPIECE[caption], 1]


def test_training_reads_what_is_counted_and_ends_every_text_with_its_mark() -> None:
    reader = text.own_t5_tokenizer()
    long, short = reader(["cat " * 40, "cat"], padding="max_length", max_length=16, truncation=True).input_ids
    assert long == [*[1712] * 15, 1]
    assert short == [1712, 1, *[0] * 14]
    captions = [*SENTENCEPIECE, "cat " * 40]
    found = t5_tokens.counts(t5_tokens.tokenizer(), captions, 16)
    assert [each.tokens + 1 for each in found] == [len(reader(each).input_ids) for each in captions]


def test_what_is_cut_off_is_told_in_its_own_words() -> None:
    reader = t5_tokens.tokenizer()
    caption = "cat " * 14 + "dog mouse"
    fits, cut = t5_tokens.counts(reader, ["cat " * 14 + "dog", caption], 16)
    assert (fits.tokens, fits.lost) == (15, "")
    assert (cut.tokens, cut.lost) == (16, "mouse")


def test_a_damaged_tokenizer_is_the_bases_fault_and_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelFileError, match="E-MOD-102"):
        t5_tokens.tokenizer(tmp_path)


def test_a_folder_without_its_own_is_read_with_ours(tmp_path: Path) -> None:
    assert t5_tokens.tokenizer(tmp_path).encode("cat").ids == [1712, 1]

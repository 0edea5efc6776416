"""Tokens are counted without torch exactly as training reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from impasto.errors import ModelFileError
from impasto.families import detect, text, tokens
from impasto.families.config import Model

CAPTIONS = [
    "",
    "a photo of ohwx man, smiling",
    "1girl, solo, (masterpiece:1.3), looking at viewer, [grey] hair, \\(series\\)",
    "Ünïcode  naïve café — 東京, 🙂🙂 it's they're 1234",
    "word " * 200,
    "<|endoftext|> in the middle",
    "a_b-c.d/e\tf\u00a0g",
]


@pytest.mark.parametrize("emphasis", ["off", "plain"])
@pytest.mark.parametrize("base", ["own", "pocket", "tiny"])
def test_as_many_tokens_are_counted_as_are_read(base: str, emphasis: str, tiny_base: Path) -> None:
    model = Model(path=str(tiny_base) if base == "tiny" else "pocket", emphasis=emphasis, max_tokens=75)
    card = detect.look(model)
    if base == "own":
        card, tokenizer = replace(card, tokenizers=None), text.own_tokenizer()
    else:
        from transformers import CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(card.tokenizers / "tokenizer")
    found = tokens.counts(card, model, CAPTIONS)
    assert [each.tokens for each in found] == [
        len(text._read(tokenizer, each, 10_000, emphasis)[0]) for each in CAPTIONS
    ]


def test_what_is_cut_off_is_told_in_its_own_words() -> None:
    model = Model(path="pocket", max_tokens=75)
    card = replace(detect.look(model), tokenizers=None)
    caption = " ".join(["cat"] * 74 + ["Dog", "Mouse house"])
    (found,) = tokens.counts(card, model, [caption])
    assert (found.tokens, found.lost) == (77, "Mouse house")
    (weighted,) = tokens.counts(card, model.model_copy(update={"emphasis": "mean"}), [f"({caption}:1.2) end"])
    assert (weighted.tokens, weighted.lost) == (78, "Mouse house end")
    (short,) = tokens.counts(card, model.model_copy(update={"max_tokens": 150}), [caption])
    assert short.lost == ""


def test_a_folder_of_an_older_kind_is_read_too(tmp_path: Path) -> None:
    model = Model(path="pocket")
    card = detect.look(model)
    assert card.tokenizers is not None
    (tmp_path / "tokenizer").mkdir()
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "tokenizer" / name).write_bytes((card.tokenizers / "tokenizer" / name).read_bytes())
    assert tokens.counts(replace(card, tokenizers=tmp_path), model, CAPTIONS) == tokens.counts(card, model, CAPTIONS)


def test_a_damaged_tokenizer_is_the_bases_fault_and_named(tmp_path: Path) -> None:
    model = Model(path="pocket")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(ModelFileError, match="E-MOD-102"):
        tokens.counts(replace(detect.look(model), tokenizers=tmp_path), model, CAPTIONS)

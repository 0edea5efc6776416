"""The tokenizer: byte pairs learnt from the captions' own words, in CLIP's format."""

import itertools
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from transformers import CLIPTokenizer

from impasto.pocket.captions import NONSENSE, caption
from impasto.pocket.pretrain.pictures import scene_of

WAYS = 4
"""How many captions each picture gets."""

LENGTH = 77
MERGES = 340
START, END = "<|startoftext|>", "<|endoftext|>"

Word = tuple[str, ...]


def captions_of(seed: int, number: int) -> list[str]:
    """The captions of a numbered training picture."""
    scene, rng = scene_of(seed, number), np.random.default_rng((seed, number, 1))
    return [caption(scene, rng) for _ in range(WAYS)]


def make_tokenizer(work: Path, seed: int) -> None:
    """Learn the merges, save `tokenizer/`, and tokenise every training caption into `tokens.npy`."""
    count = len(np.load(work / "labels.npy", mmap_mode="r"))
    lines = [line for number in range(count) for line in captions_of(seed, number)]
    joins = merges(words_of(lines))
    tokenizer = built(joins)
    save_tokenizer(tokenizer, joins, work / "tokenizer")
    unique = sorted(set(lines))
    rows = dict(zip(unique, tokenize(tokenizer, unique), strict=True))
    tokens = np.stack([rows[line] for line in lines]).reshape(count, WAYS, LENGTH)
    np.save(work / "tokens.npy", tokens)
    print(f"{len(tokenizer)} tokens; {len(unique)} different captions; longest {longest(tokens)} tokens")


def tokenize(tokenizer: CLIPTokenizer, lines: list[str]) -> np.ndarray:
    """Token numbers, padded to CLIP's 77."""
    tokens: Any = tokenizer(lines, padding="max_length", max_length=LENGTH, truncation=True).input_ids
    return np.array(tokens, dtype=np.uint16)


def longest(tokens: np.ndarray) -> int:
    """The length of the longest caption, start and end included."""
    return int((tokens != tokens.max()).sum(-1).max()) + 1


def words_of(lines: list[str]) -> Counter[str]:
    """How often each word is used. Nonsense is left out, so that it stays in pieces."""
    words = Counter(word for line in lines for word in line.replace(",", " ").replace("-", " ").split())
    return Counter({word: times for word, times in words.items() if word not in NONSENSE})


def merges(words: Mapping[str, int], most: int = MERGES) -> list[tuple[str, str]]:
    """The byte pairs to join, in order: always the most frequent, ties by the alphabet."""
    pieces: dict[Word, int] = {(*word[:-1], word[-1] + "</w>"): times for word, times in words.items()}
    found: list[tuple[str, str]] = []
    while len(found) < most:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in pieces.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += times
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(best)
        pieces = {_joined(word, best): times for word, times in pieces.items()}
    return found


def built(joins: list[tuple[str, str]]) -> CLIPTokenizer:
    """A CLIP tokenizer with these merges: every byte is a token, so any text has a spelling."""
    letters = _letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in joins), START, END]
    vocab = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(
        vocab=vocab,
        merges=joins,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=LENGTH,
    )


def save_tokenizer(tokenizer: CLIPTokenizer, joins: list[tuple[str, str]], folder: Path) -> None:
    """Write the tokenizer, both as one file and as the two files that older readers want."""
    tokenizer.save_pretrained(folder)
    vocab = dict(sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1]))
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in joins)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _letters() -> list[str]:
    """One printable character for each byte, as GPT-2 and CLIP choose them."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spare = (chr(256 + number) for number in range(256))
    return [chr(byte) if byte in plain else next(spare) for byte in range(256)]


def _joined(word: Word, pair: tuple[str, str]) -> Word:
    pieces: list[str] = []
    for piece in word:
        if pieces and (pieces[-1], piece) == pair:
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return tuple(pieces)

"""How many tokens a caption has for a base, and where it is cut off: as training reads it, without torch."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impasto.errors import ModelFileError, Problem
from impasto.families.card import Card
from impasto.families.config import Model
from impasto.families.emphasis import parse

MERGES = Path(__file__).parent / "clip" / "merges.txt.gz"
"""CLIP's byte pairs (MIT, see LICENSE beside it); the vocabulary follows from them."""

END = "<|endoftext|>"


@dataclass(frozen=True)
class Count:
    """A caption's tokens."""

    tokens: int
    """All of them, without the marks at start and end."""

    lost: str = ""
    """What of the text is beyond the limit."""


def counts(card: Card, model: Model, captions: Sequence[str]) -> list[Count]:
    """The tokens of each caption, and what `model.max_tokens` cuts off."""
    tokenizer = _of(card)
    if model.emphasis == "off":
        return [_plain(each, text, model) for each, text in zip(_encoded(tokenizer, captions), captions, strict=True)]
    return [_weighted(tokenizer, text, model.max_tokens) for text in captions]


def pieces(card: Card, model: Model, caption: str) -> tuple[list[str], int]:
    """What of the caption makes each token, in order, and how many of them are read. Brackets are taken as text."""
    (found,) = _encoded(_of(card), [caption])
    return [caption[start:end] for start, end in found.offsets], model.max_tokens


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's tokens and the pairs they are merged from."""
    lines = gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()
    merges = [(first, second) for first, second in (line.split(" ") for line in lines)]
    letters = list(_letters().values())
    names = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    return {name: at for at, name in enumerate([*names, "<|startoftext|>", END])}, merges


def _of(card: Card) -> Any:
    """The tokenizer of the base's first text encoder."""
    folder = card.tokenizers / "tokenizer" if card.tokenizers else None
    try:
        return _read(folder)
    except Exception as error:  # the library raises nothing more special for files that are damaged
        what = f"its tokenizer cannot be read ({str(error)[:100]})"
        raise ModelFileError(Problem("E-MOD-102", what, str(folder), "fetch the folder again")) from error


def _read(folder: Path | None) -> Any:
    from tokenizers import Tokenizer

    if folder is not None and (folder / "tokenizer.json").is_file():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    if folder is not None and (folder / "merges.txt").is_file() and (folder / "vocab.json").is_file():
        lines = (folder / "merges.txt").read_text("utf-8").splitlines()
        merges = [(first, second) for first, _, second in (line.partition(" ") for line in lines) if second]
        return _clip(
            json.loads((folder / "vocab.json").read_text("utf-8")), [each for each in merges if each[0] != "#version:"]
        )
    return _clip(*vocabulary())


def _clip(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    """As transformers puts CLIP's tokenizer together."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    made = Tokenizer(models.BPE(vocab, merges, end_of_word_suffix="</w>", fuse_unk=False, unk_token=END))
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(words), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.add_special_tokens(["<|startoftext|>", END])
    return made


def _letters() -> dict[int, str]:
    """A printable letter for every byte, in the order of CLIP's vocabulary: printable bytes stand for themselves."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + at) for at, byte in enumerate(others)}


def _encoded(tokenizer: Any, texts: Sequence[str]) -> list[Any]:
    found: list[Any] = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return found


def _plain(encoded: Any, text: str, model: Model) -> Count:
    return _count(encoded, text, model.max_tokens, len(encoded.ids))


def _weighted(tokenizer: Any, text: str, most: int) -> Count:
    pieces = [piece for piece, _ in parse(text)]
    encoded = _encoded(tokenizer, pieces)
    room, lost = most, ""
    for piece, each in zip(pieces, encoded, strict=True):
        lost += _count(each, piece, room, len(each.ids)).lost if room > 0 else piece
        room = max(0, room - len(each.ids))
    return Count(sum(len(each.ids) for each in encoded), lost)


def _count(encoded: Any, text: str, most: int, found: int) -> Count:
    return Count(found, text[encoded.offsets[most][0] :] if found > most else "")

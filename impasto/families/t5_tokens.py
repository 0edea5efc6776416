"""T5's tokens: its vocabulary comes with impasto, and captions are counted as training reads them. No torch."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from impasto.errors import ModelFileError, Problem
from impasto.families.card import Card
from impasto.families.tokens import Count

VOCABULARY = Path(__file__).parent / "t5" / "tokenizer.json.gz"
"""T5's pieces of text (Apache License 2.0, see LICENSE and NOTICE beside it)."""

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"


def tokenizer(folder: Path | None = None) -> Any:
    """A `tokenizers.Tokenizer` as T5 reads: that of a tokenizer's folder, or the one that comes with impasto.

    Raises ModelFileError when the folder's cannot be read.
    """
    if folder is None or not (folder / "tokenizer.json").is_file():
        return _own()
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing more special for files that are damaged
        what = f"T5's tokenizer cannot be read ({str(error)[:100]})"
        raise ModelFileError(Problem("E-MOD-102", what, str(folder), "fetch the folder again")) from error


def folder_of(card: Card) -> Path | None:
    """The folder of a base's own T5 tokenizer, if it has one."""
    name = "tokenizer_2" if card.family == "flux" else "tokenizer_3"  # FLUX.1's folders have no third
    found = card.tokenizers / name if card.tokenizers else None
    return found if found and found.is_dir() else None


def counts(reader: Any, captions: Sequence[str], most: int) -> list[Count]:
    """The tokens of each caption, without the end mark, and what is cut off where a text has `most` with it."""
    found = []
    for caption, read in zip(captions, reader.encode_batch(list(captions), add_special_tokens=False), strict=True):
        lost = caption[read.offsets[most - 1][0] :].lstrip() if len(read.ids) >= most else ""
        found.append(Count(len(read.ids), lost))
    return found


def pieces(reader: Any, caption: str, most: int) -> tuple[list[str], int]:
    """What of the caption makes each token, in order, and how many of them are read where a text has `most`."""
    (found,) = reader.encode_batch([caption], add_special_tokens=False)
    return [caption[start:end] for start, end in found.offsets], most - 1


@cache
def _own() -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(gzip.decompress(VOCABULARY.read_bytes()).decode("utf-8"))

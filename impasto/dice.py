"""Dice are a function, not a stream: every random choice is asked for by name and has one answer.

A key names the choice: (member seed, purpose, epoch, example, visit ...). The same key gives the same seed in every
process, on every resume and in any company; two keys that differ anywhere give unrelated seeds.
"""

from __future__ import annotations

import hashlib
import random

Key = int | str


def seed(*key: Key) -> int:
    """A 63-bit seed for the random choice that `key` names."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*key: Key) -> random.Random:
    """A fresh Python generator for the random choice that `key` names."""
    return random.Random(seed(*key))

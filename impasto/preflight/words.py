"""What captions are like: their length for the base, their tags, and those that are no captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from impasto.data import captions
from impasto.data.config import Data
from impasto.data.examples import Example
from impasto.families import t5_tokens, tokens
from impasto.families.card import Card
from impasto.families.config import Model
from impasto.preflight.report import Cut, Reading, Words

SHOWN = 20
_WORD = re.compile(r"[\w'-]+")
_LETTER = re.compile(
    r"^\s*(dear|hi|hello|hey|sure|certainly|of course|here is|here's|i'm sorry|i am sorry|as an ai|thank you|thanks)\b"
    r"|\b(best regards|kind regards|yours sincerely|let me know|feel free|i hope this|as an ai|i can't assist"
    r"|i cannot assist|would you like me|please note|here's a caption|here is a caption|i'd be happy)\b",
    re.IGNORECASE,
)
"""How letters and answers of chat programs begin and end."""


def reads_like_a_letter(caption: str) -> bool:
    """Whether a caption speaks to someone rather than of a picture."""
    return _LETTER.search(caption) is not None


def words(data: Data, examples: Sequence[Example], card: Card, model: Model) -> Words:
    """The captions of `examples` as they are with nothing shuffled or left out."""
    rules = [data.captions_of(data.sets[each.set]) for each in examples]
    whole = [captions.complete(each.caption, rule) for each, rule in zip(examples, rules, strict=True)]
    known = dict(zip(unique := list(dict.fromkeys(whole)), tokens.counts(card, model, unique), strict=True))
    counts = [known[text] for text in whole]
    tags = Counter(
        tag.strip().casefold()
        for text, rule in zip(whole, rules, strict=True)
        for tag in text.split(rule.separator)
        if tag.strip()
    )
    sets = [frozenset(_WORD.findall(text.casefold())) for text in whole]
    return Words(
        captions=len(whole),
        different=len(unique),
        empty=sum(not text.strip() for text in whole),
        limit=model.max_tokens,
        longest=_longest(counts),
        mean=_mean(counts),
        cut=_cut(examples, counts),
        t5=_by_t5(examples, whole, card, model),
        letters=tuple(str(each.path) for each, text in zip(examples, whole, strict=True) if reads_like_a_letter(text)),
        common=tuple(sorted(frozenset.intersection(*sets))) if sets else (),
        tags=tuple(tags.most_common(SHOWN)),
        rare=sum(count == 1 for count in tags.values()),
        different_tags=len(tags),
    )


def _by_t5(examples: Sequence[Example], captions: Sequence[str], card: Card, model: Model) -> Reading | None:
    if "text_encoder_3" not in card.configs:
        return None
    limit, reader = model.t5_tokens or card.t5_tokens, t5_tokens.tokenizer(t5_tokens.folder_of(card))
    known = dict(zip(unique := list(dict.fromkeys(captions)), t5_tokens.counts(reader, unique, limit),
                     strict=True))  # fmt: skip
    counts = [known[text] for text in captions]
    return Reading(limit - 1, _longest(counts), _mean(counts), _cut(examples, counts))


def _longest(counts: Sequence[tokens.Count]) -> int:
    return max((count.tokens for count in counts), default=0)


def _mean(counts: Sequence[tokens.Count]) -> float:
    return sum(count.tokens for count in counts) / max(1, len(counts))


def _cut(examples: Sequence[Example], counts: Sequence[tokens.Count]) -> tuple[Cut, ...]:
    return tuple(
        Cut(str(each.path), count.tokens, count.lost)
        for each, count in zip(examples, counts, strict=True)
        if count.lost
    )

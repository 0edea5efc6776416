"""Advice on pictures, captions and how often they are seen."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator

from impasto.preflight.facts import Facts, Rule, Said

BAND = (20, 600)
"""Looks at a picture in a run, below and above which adapters are usually under- and over-trained."""

_SIDED = re.compile(r"\b(left|right)(-| )?(hand|handed|side|arm|eye|ear|facing|profile|parting)?\b", re.IGNORECASE)
_WEIGHTED = re.compile(r"\([^()]+:\s*\d*\.?\d+\s*\)")
_CHOICE = re.compile(r"\{[^{}|]+\|[^{}]+\}")


def _often(facts: Facts) -> Iterator[Said]:
    most = max((each.repeats for each in facts.learnt), default=1)
    if most >= 10 and len(facts.learnt) >= 200:
        what = (
            f"{len(facts.learnt)} pictures are repeated up to {most} times: an epoch is too long to choose among epochs"
        )
        yield "data.sets", what, "repeats = 1 and more epochs"


def _seldom(facts: Facts) -> Iterator[Said]:
    most = max((each.repeats for each in facts.learnt), default=1)
    if most == 1 and len(facts.learnt) < 15 and facts.config.save.every_epochs == 1 and facts.steps.epochs > 20:
        what = f"an epoch has {facts.steps.per_epoch} steps, and each is saved"
        yield "data.sets", what, "repeats = 10 and fewer epochs, or save.every_epochs = 10"


def _too_short(facts: Facts) -> Iterator[Said]:
    if facts.steps.per_picture < BAND[0]:
        what = f"each picture is seen {facts.steps.per_picture:.3g} times in the run"
        yield "train.epochs", what, f"more epochs: {BAND[0]} to 200 looks are usual"


def _too_long(facts: Facts) -> Iterator[Said]:
    if facts.steps.per_picture > BAND[1]:
        what = f"each picture is seen {facts.steps.per_picture:.0f} times in the run: it will be known by heart"
        yield "train.epochs", what, "fewer epochs or repeats: 20 to 200 looks are usual"


def _few_steps(facts: Facts) -> Iterator[Said]:
    if facts.steps.total < 100:
        what = f"the run has {facts.steps.total} steps, at most so many times a rate's length away from the base"
        yield "train.steps", what, "a smaller batch or more epochs"


def _never_saved(facts: Facts) -> Iterator[Said]:
    save = facts.config.save
    if save.every_steps is save.every_epochs is save.every_minutes is save.files is None and facts.steps.total > 500:
        what = (
            f"nothing is saved before step {facts.steps.total}: a crash loses all, and no earlier state can be chosen"
        )
        yield "save.every_epochs", what, "every_epochs = 1"


def _many_saves(facts: Facts) -> Iterator[Said]:
    if facts.forecast.disk.adapter_files > 100:
        yield (
            "save.keep",
            f"{facts.forecast.disk.adapter_files} adapter files would be kept",
            "save less often, or keep = 20",
        )


def _unseen(facts: Facts) -> Iterator[Said]:
    if not facts.config.preview.prompts and facts.steps.total > 500:
        yield "preview.prompts", "nothing is drawn on the way", 'add [[preview.prompts]] with text = "…"'


def _many_previews(facts: Facts) -> Iterator[Said]:
    drawn = facts.forecast.disk.previews
    if drawn > 20 and drawn * 20 > 2 * facts.steps.total:
        what = f"{drawn} pictures are drawn in {facts.steps.total} steps: drawing takes longer than training"
        yield "preview.every_steps", what, "draw less often"


def _ragged(facts: Facts) -> Iterator[Said]:
    steps = facts.steps
    if facts.config.data.batch_size > 1 and steps.micro_batches >= 4 and steps.partial > 0.5 * steps.micro_batches:
        what = f"{steps.partial} of {steps.micro_batches} micro-batches are not full: buckets hold too few pictures"
        yield "data.buckets.step", what, "a larger bucket step, a smaller batch, or repeats"


def _short_epoch(facts: Facts) -> Iterator[Said]:
    if facts.config.train.accumulate > facts.steps.micro_batches:
        what = (
            f"{facts.config.train.accumulate} micro-batches make a step, and an epoch has {facts.steps.micro_batches}"
        )
        yield "train.accumulate", what, f"accumulate = {facts.steps.micro_batches} or less"


def _few_of_class(facts: Facts) -> Iterator[Said]:
    wanted = sum(each.repeats for each in facts.learnt)
    there = sum(each.role == "regularization" for some in facts.feed.scan.examples for each in some)
    if 0 < there < wanted:
        what = f"{there} regularization pictures take turns for {wanted} looks: each comes {wanted / there:.1f} times"
        yield "data.sets", what, f"{wanted} different pictures of the class, or fewer repeats"


def _mirrored(facts: Facts) -> Iterator[Said]:
    data = facts.config.data
    sided = [each for each in facts.learnt if data.augment_of(data.sets[each.set]).flip and _SIDED.search(each.caption)]
    if sided:
        what = f"{len(sided)} captions tell left from right, and half of the looks are mirrored: {sided[0].path.name}"
        yield "data.augment.flip", what, "flip = false for this set"


def _recoloured(facts: Facts) -> Iterator[Said]:
    data = facts.config.data
    live = any(data.augment_of(each).varies and data.augment_of(each).variants is None for each in data.sets)
    if data.cache and live:
        what = "pictures that are new at each visit cannot be kept encoded: every step encodes anew"
        yield "data.augment.variants", what, "variants = 8"


def _no_trigger(facts: Facts) -> Iterator[Said]:
    words = facts.words
    if words.captions >= 5 and words.different > 1 and not words.common:
        yield (
            "data.captions.prefix",
            "no word is in all captions, so none will call what is learnt",
            'prefix = "yourword, "',
        )


def _unknown_trigger(facts: Facts) -> Iterator[Said]:
    asked, data = facts.config.scores, facts.config.data
    said = (f"{data.captions_of(data.sets[each.set]).prefix} {each.caption}" for each in facts.learnt)
    if asked.trigger is not None and facts.learnt and not any(map(asked.called_by, said)):
        what = f"no caption has {asked.trigger!r} in it, so what it draws says nothing of what is learnt"
        yield "scores.trigger", what, "the word that the captions call it by"


def _one_caption(facts: Facts) -> Iterator[Said]:
    if facts.words.captions >= 10 and facts.words.different == 1 and not facts.words.empty:
        what = f"all {facts.words.captions} pictures have one caption: background and pose become part of the subject"
        yield "data.captions.text", what, "a caption for each picture"


def _cut_off(facts: Facts) -> Iterator[Said]:
    if t5 := facts.words.t5:  # what the other encoders do not read, it does
        if t5.cut:
            what = f"{len(t5.cut)} captions are cut at {t5.limit} tokens of T5; the first loses {t5.cut[0].lost[:60]!r}"
            yield "model.t5_tokens", what, "t5_tokens = 512" if t5.limit < 511 else "shorter captions"
    elif cut := facts.words.cut:
        what = f"{len(cut)} captions are cut at {facts.words.limit} tokens; the first loses {cut[0].lost[:60]!r}"
        more = 150 if facts.words.limit < 150 else 225
        yield "model.max_tokens", what, f"max_tokens = {more}" if facts.words.limit < 225 else "shorter captions"


def _letters(facts: Facts) -> Iterator[Said]:
    if letters := facts.words.letters:
        what = f"{len(letters)} captions read like a letter or a chat: {letters[0]}"
        yield "data.captions", what, "say what the picture shows, and nothing to anyone"


def _copies(facts: Facts) -> Iterator[Said]:
    if copies := facts.forecast.pictures.copies:
        what = f"{sum(map(len, copies))} pictures look the same as another: {', '.join(copies[0][:3])}"
        yield "data.sets", what, "keep one of each, or they count so many times"


def _enlarged(facts: Facts) -> Iterator[Said]:
    pictures = facts.forecast.pictures
    if pictures.largest_upscale > 1.5:
        what = f"{pictures.upscaled} pictures are enlarged, up to {pictures.largest_upscale:.2g} times: blur is learnt"
        yield "data.buckets.upscale", what, "larger pictures, a smaller resolution, or upscale = false"


def _cropped(facts: Facts) -> Iterator[Said]:
    pictures = facts.forecast.pictures
    if pictures.largest_crop > 0.25:
        what = f"{pictures.cropped} pictures lose more than a tenth at their edges, up to {pictures.largest_crop:.0%}"
        yield "data.buckets", what, "enabled = true, or a smaller bucket step"


def _moving_trigger(facts: Facts) -> Iterator[Said]:
    rules = facts.config.data.captions
    if rules.shuffle and not rules.keep_tokens and not rules.keep_tokens_separator and not rules.prefix:
        yield "data.captions.keep_tokens", "the trigger is shuffled with the rest", "keep_tokens = 1"


def _shuffled_sentences(facts: Facts) -> Iterator[Said]:
    rules = facts.config.data.captions
    captions = [each.caption for each in facts.learnt if each.caption]
    parts = sum(len(each.split(rules.separator)) for each in captions) / max(1, len(captions))
    if rules.shuffle and captions and parts < 3:
        yield (
            "data.captions.shuffle",
            f"captions have {parts:.2g} tags on average: sentences are cut up",
            "shuffle = false",
        )


def _silent(facts: Facts) -> Iterator[Said]:
    if (dropout := facts.config.data.captions.dropout) > 0.3:
        yield "data.captions.dropout", f"{dropout:.0%} of looks have no words", "dropout = 0.1"


def _few(facts: Facts) -> Iterator[Said]:
    if len(facts.learnt) < 5:
        yield (
            "data.sets",
            f"{len(facts.learnt)} pictures are few to tell a subject from its surroundings",
            "10 to 30 pictures",
        )


def _larger_than_base(facts: Facts) -> Iterator[Said]:
    largest = max((each.width * each.height for each in facts.forecast.pictures.buckets), default=0) ** 0.5
    if largest > 1.5 * facts.card.resolution:
        what = f"{largest:.0f} pixels on a base of {facts.card.resolution}: it draws everything twice there"
        yield "data.resolution", what, f"resolution = {facts.card.resolution}"


def _smaller_than_base(facts: Facts) -> Iterator[Said]:
    largest = max((each.width * each.height for each in facts.forecast.pictures.buckets), default=10**9) ** 0.5
    if largest < 0.5 * facts.card.resolution:
        what = f"{largest:.0f} pixels on a base of {facts.card.resolution}: coarse pictures are learnt"
        yield "data.resolution", what, f"resolution = {facts.card.resolution}"


def _brackets(facts: Facts) -> Iterator[Said]:
    found = [each for each in facts.learnt if _WEIGHTED.search(each.caption)]
    if facts.config.model.emphasis == "off" and found:
        yield (
            "model.emphasis",
            f"{len(found)} captions have weights like (word:1.2), read as text",
            'emphasis = "plain"',
        )


def _braces(facts: Facts) -> Iterator[Said]:
    found = [each for each in facts.learnt if _CHOICE.search(each.caption)]
    if not facts.config.data.captions.wildcards and found:
        yield (
            "data.captions.wildcards",
            f"{len(found)} captions have choices like {{a|b}}, read as text",
            "wildcards = true",
        )


def _all_kept(facts: Facts) -> Iterator[Said]:
    rules = facts.config.data.captions
    tags = [len(each.caption.split(rules.separator)) for each in facts.learnt if each.caption]
    if tags and rules.shuffle and rules.keep_tokens >= max(tags):
        what = f"{rules.keep_tokens} tags are kept in place and no caption has more: nothing is shuffled"
        yield "data.captions.keep_tokens", what, "keep_tokens = 1"


def _empty(facts: Facts) -> Iterator[Said]:
    if 0 < facts.words.empty < facts.words.captions:
        what = f"{facts.words.empty} of {facts.words.captions} pictures have an empty caption"
        yield "data.captions", what, "write them, or captions.text for those without"


def _workers(facts: Facts) -> Iterator[Said]:
    data, cores = facts.config.data, os.cpu_count() or 1
    kept = data.cache and not any(pool.live for pool in facts.feed.plan.pools)
    if data.workers > cores or (kept and data.workers > 4):
        why = "everything is read encoded from the cache" if kept else f"there are {cores} cores"
        yield "data.workers", f"{data.workers} threads make batches, and {why}", f"workers = {min(2, cores)}"


def _weightless(facts: Facts) -> Iterator[Said]:
    for at, each in enumerate(facts.config.data.sets):
        if each.weight == 0 and each.role != "validation":
            yield f"data.sets.{at}.weight", "pictures of weight 0 take time and teach nothing", "delete the set"


def _one_eats_all(facts: Facts) -> Iterator[Said]:
    looks = Counter[int]()
    for each in facts.learnt:
        looks[each.set] += each.repeats
    if len(looks) > 1 and max(looks.values()) > 20 * min(looks.values()):
        what = f"sets are seen {max(looks.values())} and {min(looks.values())} times an epoch: the small one is drowned"
        yield "data.sets", what, "more repeats for the small set"


RULES = (
    Rule("A-301", "many pictures with many repeats",
         "Repeats only make epochs longer; saves and previews count epochs.",
         _often),
    Rule("A-302", "few pictures without repeats, saved each epoch",
         "An epoch is then a few steps, and files differ by nothing.",
         _seldom),
    Rule("A-303", "few looks at a picture",
         "Below 20 looks little is learnt at usual rates.",
         _too_short),
    Rule("A-304", "very many looks at a picture",
         "Beyond some hundred looks pictures are repeated, not understood.",
         _too_long),
    Rule("A-305", "a very short run",
         "Adaptive optimizers move by about the rate a step.",
         _few_steps),
    Rule("A-306", "nothing is saved on the way",
         "The best state is rarely the last.",
         _never_saved),
    Rule("A-307", "very many files",
         "Nobody compares a hundred files.",
         _many_saves),
    Rule("A-308", "no previews",
         "What a run does is seen in pictures, not in the loss.",
         _unseen),
    Rule("A-309", "more drawing than training",
         "A preview of 20 steps costs about as much as 10 steps of training.",
         _many_previews),
    Rule("A-310", "micro-batches that are not full",
         "Pictures of one micro-batch share a bucket, so rare shapes make small ones.",
         _ragged),
    Rule("A-311", "more accumulation than an epoch has",
         "Steps do not go beyond the end of an epoch.",
         _short_epoch),
    Rule("A-401", "few regularization pictures",
         "They come as often as training pictures, so few are learnt by heart.",
         _few_of_class),
    Rule("A-402", "mirrored pictures with sides in captions",
         "A mirrored left hand is a right one.",
         _mirrored),
    Rule("A-403", "augmentation against the cache",
         "Cuts and colours by dice make every visit another picture.",
         _recoloured),
    Rule("A-404", "captions without a trigger",
         "What all captions share is what calls the subject.",
         _no_trigger),
    Rule("A-405", "one caption for all",
         "What no caption names is learnt under the one that there is.",
         _one_caption),
    Rule("A-406", "captions that are cut off",
         "The text encoder reads a limited number of tokens.",
         _cut_off),
    Rule("A-407", "captions that are letters",
         "Captioning models sometimes answer instead of describing.",
         _letters),
    Rule("A-408", "pictures that look the same",
         "Copies count several times and are learnt by heart first.",
         _copies),
    Rule("A-409", "small pictures, enlarged",
         "Blur is part of the picture, and is learnt.",
         _enlarged),
    Rule("A-410", "much is cut off",
         "Heads and feet are at the edges.",
         _cropped),
    Rule("A-411", "the trigger is shuffled",
         "Tags that stay in front are learnt as the name.",
         _moving_trigger),
    Rule("A-412", "sentences are shuffled",
         "Pieces of a sentence in another order mean something else.",
         _shuffled_sentences),
    Rule("A-413", "captions often left out",
         "What is learnt without words shows up everywhere.",
         _silent),
    Rule("A-414", "very few pictures",
         "What all pictures share is taken for the subject.",
         _few),
    Rule("A-415", "larger than the base knows",
         "Bases repeat their subject beyond the size they were trained at.",
         _larger_than_base),
    Rule("A-416", "smaller than the base knows",
         "Details are learnt at the size they are seen.",
         _smaller_than_base),
    Rule("A-417", "weights in captions, read as text",
         "Brackets and numbers become tokens.",
         _brackets),
    Rule("A-418", "choices in captions, read as text",
         "Braces become tokens.",
         _braces),
    Rule("A-419", "nothing left to shuffle",
         "All tags are kept in place.",
         _all_kept),
    Rule("A-420", "some captions are empty",
         "These pictures are learnt without words.",
         _empty),
    Rule("A-421", "more workers than help",
         "Threads share cores, and reading encodings takes next to nothing.",
         _workers),
    Rule("A-422", "a set of weight 0",
         "It is encoded, drawn and thrown away.",
         _weightless),
    Rule("A-423", "sets of very unequal share",
         "Looks decide what is learnt.",
         _one_eats_all),
    Rule("A-424", "a trigger that no caption has",
         "Pictures drawn with a word that was never read are pictures of the base.",
         _unknown_trigger),
)  # fmt: skip

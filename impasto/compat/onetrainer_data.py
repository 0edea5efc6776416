"""OneTrainer's concepts: folders of pictures, their captions and what is done to them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from impasto.compat.nested import count, sides
from impasto.compat.translating import Desk, tidy

TYPES = {"STANDARD": "train", "VALIDATION": "validation", "PRIOR_PREDICTION": "regularization"}
MASK = "-masklabel"
"""What the name of a mask has more than that of its picture there."""


def data(desk: Desk) -> None:
    """All of it."""
    sets = [one for at in range(count(desk, "concepts")) if (one := _concept(desk, f"concepts[{at}]."))]
    silence = _silence(desk)
    for one in sets if silence else ():
        one["captions"] = {"dropout": silence, **one.get("captions", {})}
    _common(desk, sets)
    if sets:
        desk.set("data.sets", sets)
    _size(desk)
    if many := desk.whole("batch_size"):
        desk.put("batch_size", ("data.batch_size", many))
    if desk.has("aspect_ratio_bucketing") and not desk.flag("aspect_ratio_bucketing"):
        desk.put("aspect_ratio_bucketing", ("data.buckets.enabled", False))
    desk.same("aspect_ratio_bucketing", "as by default; which shapes there are follows from data.resolution")
    if (many := desk.whole("dataloader_threads")) and many > 1:
        desk.put("dataloader_threads", ("data.workers", min(many, 64)))
    desk.same("dataloader_threads", "one, as by default")
    for name in ("latent_caching", "clear_cache_before_training", "latent_caching_epochs", "cache_dir"):
        desk.better(name, "what is encoded is kept by all that it depends on, so it is never out of date")
    _masks(desk)


def _size(desk: Desk) -> None:
    if not desk.has("resolution") or desk.peek("resolution") in (None, ""):
        return
    found = sides(desk.peek("resolution"))
    desk.set("data.resolution", found[0])
    if len(found) == 1:
        desk.done("resolution", "same", "", settings=["data.resolution"])
    else:
        why = "how often each size is used is not documented; the first one counts; for several, name a folder in"
        desk.lost("resolution", f"{why} several sets, each with its resolution")


def _masks(desk: Desk) -> None:
    names = ("masked_training", "unmasked_probability", "unmasked_weight", "normalize_masked_area_loss",
             "masked_prior_preservation_weight")  # fmt: skip
    if desk.flag("masked_training"):
        desk.put("masked_training", ("data.masks.suffix", MASK))
        if least := desk.number("unmasked_weight"):
            desk.put("unmasked_weight", ("objective.mask.floor", tidy(least)))
        if desk.has("normalize_masked_area_loss"):
            pair = ("objective.mask.normalise", desk.flag("normalize_masked_area_loss"))
            desk.put("normalize_masked_area_loss", pair)
        if desk.number("unmasked_probability"):
            desk.lost("unmasked_probability", "a mask counts at every step here")
        if desk.number("masked_prior_preservation_weight"):
            desk.lost("masked_prior_preservation_weight", "what is masked is left to the base without it here")
    for name in names:
        desk.same(name, "off, or not read without masked_training")


def _silence(desk: Desk) -> int | float:
    """How often captions are left out: there, by text encoder."""
    names = [each for each in desk.recipe.args if re.fullmatch(r"text_encoder(_\d)?\.dropout_probability", each)]
    shares = {desk.number(each) or 0.0 for each in names}
    alike = shares.pop() if len(shares) == 1 else 0.0
    for each in names:
        if shares:
            desk.lost(each, "silence of single text encoders is not here")
        elif alike:
            why = "all text encoders together" if len(names) > 1 else ""
            desk.done(each, "same", why, settings=["data.captions.dropout"])
        else:
            desk.same(each, "0: none")
    return tidy(alike)


def _concept(desk: Desk, at: str) -> dict[str, Any] | None:
    """One folder, or None if it is left out."""
    if desk.has(f"{at}enabled") and not desk.flag(f"{at}enabled"):
        for name in [each for each in desk.recipe.args if each.startswith(at)]:
            desk.same(name, "not enabled")
        return None
    desk.same(f"{at}enabled", "read")
    path = desk.text(f"{at}path") or "."
    one: dict[str, Any] = {"path": path, "repeats": 1}  # names of folders say nothing there
    desk.done(f"{at}path", "same", "", settings=["data.sets.path"])
    kind = desk.text(f"{at}type") or ("VALIDATION" if desk.flag(f"{at}validation_concept") else "STANDARD")
    role = TYPES.get(kind, "train")
    if role != "train":
        one["role"] = role
        desk.done(f"{at}type", "same", "", settings=[f"data.sets.role = {role}"])
    if kind == "PRIOR_PREDICTION":
        desk.set("objective.prior_target", "base", "what the base itself would draw is the target of its pictures")
    elif kind not in TYPES:
        desk.lost(f"{at}type", "there is no such role here; its pictures are trained on")
    for name in ("type", "validation_concept"):
        desk.same(f"{at}{name}", "trained on, as by default" if role == "train" else "as data.sets.role")
    _times(desk, at, one)
    inner = desk.flag(f"{at}include_subdirectories")
    folder = Path(path).expanduser()
    if not inner and not desk.recipe.alone and folder.is_dir() and any(each.is_dir() for each in folder.iterdir()):
        desk.lost(f"{at}include_subdirectories", "sub-folders are read here: move what is not meant out of the folder")
    desk.same(f"{at}include_subdirectories", "sub-folders are read")
    for section, values in (("captions", _captions(desk, at)), ("augment", _augment(desk, at))):
        if values:
            one[section] = values
    if desk.flag(f"{at}image.enable_resolution_override") and desk.has(f"{at}image.resolution_override"):
        one["resolution"] = sides(desk.peek(f"{at}image.resolution_override"))[0]
        desk.done(f"{at}image.resolution_override", "same", "", settings=["data.sets.resolution"])
    for name in ("enable_resolution_override", "resolution_override"):
        desk.same(f"{at}image.{name}", "as data.sets.resolution, or off")
    return one


def _times(desk: Desk, at: str, one: dict[str, Any]) -> None:
    many, way = desk.number(f"{at}balancing"), (desk.text(f"{at}balancing_strategy") or "REPEATS").upper()
    if way == "REPEATS" and many and many == int(many):
        one["repeats"] = int(many)
        desk.done(f"{at}balancing", "same", "", settings=["data.sets.repeats"])
    elif way == "REPEATS" and many:
        desk.lost(f"{at}balancing", "whole repeats only: each picture is seen once an epoch; data.sets.weight may do")
    elif many:
        desk.lost(f"{at}balancing", "a number of pictures for each epoch is not here: each is seen once")
    desk.same(f"{at}balancing_strategy", "with balancing")
    weight = desk.number(f"{at}loss_weight")
    if weight is not None and weight != 1:
        one["weight"] = tidy(weight)
        desk.done(f"{at}loss_weight", "same", "", settings=["data.sets.weight"])
    desk.same(f"{at}loss_weight", "1, as by default")


def _captions(desk: Desk, at: str) -> dict[str, Any]:
    text, made = f"{at}text.", dict[str, Any]()
    source = (desk.text(f"{text}prompt_source") or "sample").casefold()
    if source == "sample":
        made |= {"extensions": [".txt"], "lines": "random"}
        desk.done(f"{text}prompt_source", "same", "one of the lines at each visit",
                  settings=["data.captions.extensions", "data.captions.lines"])  # fmt: skip
    elif source == "concept":
        made |= _of_one_file(desk, f"{text}prompt_path", f"{text}prompt_source")
    else:
        desk.lost(f"{text}prompt_source", "captions are not taken from the names of pictures: write them into files")
    desk.same(f"{text}prompt_path", "not read with this source")
    kept, mark = desk.whole(f"{text}keep_tags_count") or 0, desk.text(f"{text}tag_delimiter")
    if desk.flag(f"{text}enable_tag_shuffling"):
        made["shuffle"] = True
        desk.done(f"{text}enable_tag_shuffling", "same", "", settings=["data.captions.shuffle"])
    if desk.flag(f"{text}tag_dropout_enable"):
        made |= _dropped(desk, text, kept)
    if {"shuffle", "tag_dropout"} & made.keys():
        made |= {"keep_tokens": kept} if kept else {}
        made |= {"separator": mark} if mark and mark != "," else {}
        said = ["data.captions.keep_tokens"], ["data.captions.separator"]
        desk.done(f"{text}keep_tags_count", "same", "", settings=said[0])
        desk.done(f"{text}tag_delimiter", "same", "", settings=said[1])
    for name in ("keep_tags_count", "tag_delimiter", "enable_tag_shuffling", "tag_dropout_enable", "tag_dropout_mode",
                 "tag_dropout_probability"):  # fmt: skip
        desk.same(f"{text}{name}", "off, or not read then")
    return made


def _of_one_file(desk: Desk, name: str, source: str) -> dict[str, Any]:
    path = Path(desk.text(name) or "").expanduser()
    lines = path.read_text("utf-8", "replace").splitlines() if not desk.recipe.alone and path.is_file() else []
    found = [each.strip() for each in lines if each.strip()]
    if len(found) == 1:
        desk.done(source, "same", "", settings=["data.captions.text"])
        return {"text": found[0]}
    why = (
        "one line of a file for each picture at each visit: write captions beside the pictures"
        if found
        else "no such file"
    )
    desk.lost(source, why)
    return {}


def _dropped(desk: Desk, text: str, kept: int) -> dict[str, Any]:
    mode, share = (
        (desk.text(f"{text}tag_dropout_mode") or "FULL").upper(),
        desk.number(f"{text}tag_dropout_probability"),
    )
    name = f"{text}tag_dropout_probability"
    if not share:
        return {}
    if mode == "RANDOM":
        desk.done(name, "same", "", settings=["data.captions.tag_dropout"])
        return {"tag_dropout": tidy(share)}
    if mode == "FULL" and not kept:
        desk.done(name, "same", "", settings=["data.captions.dropout"])
        return {"dropout": tidy(share)}
    why = "all but the first tags at once are not left out here" if mode == "FULL" else "tags are left out alike here"
    desk.lost(name, why)
    return {}


def _augment(desk: Desk, at: str) -> dict[str, Any]:
    image, made = f"{at}image.", dict[str, Any]()
    if desk.flag(f"{image}enable_random_flip"):
        made["flip"] = True
        desk.done(f"{image}enable_random_flip", "same", "", settings=["data.augment.flip"])
    many = desk.whole(f"{at}image_variations") or 1
    if desk.flag(f"{image}enable_crop_jitter"):
        cached = desk.flag("latent_caching")
        made["random_crop"] = True
        desk.done(f"{image}enable_crop_jitter", "same", "", settings=["data.augment.random_crop"])
        if cached:
            made["variants"] = many
            desk.done(f"{at}image_variations", "same", "", settings=["data.augment.variants"])
    for name in ("enable_random_flip", "enable_crop_jitter"):
        desk.same(f"{image}{name}", "off")
    desk.same(f"{at}image_variations", "nothing varies, or each visit has its own")
    desk.better(f"{at}text_variations", "captions are rolled anew at each visit")
    for name in [each for each in desk.recipe.args if each.startswith(image)]:
        kind = name.removeprefix(image)
        switch = re.sub(r"_max_(angle|strength)$", "", kind)
        if switch != kind:
            on = desk.recipe.args.get(f"{image}enable_{switch}")
            fixed = desk.recipe.args.get(f"{image}enable_{switch.replace('random', 'fixed')}")
            if not (on and on.value) and not (fixed and fixed.value):
                desk.same(name, "off")
    return made


def _common(desk: Desk, sets: list[dict[str, Any]]) -> None:
    """What all sets share is said once."""
    for section in ("captions", "augment"):
        found = [each.get(section) for each in sets]
        if found and found[0] and all(each == found[0] for each in found):
            for key, value in found[0].items():
                desk.set(f"data.{section}.{key}", value)
            for each in sets:
                del each[section]

"""ai-toolkit's datasets: folders of pictures, their captions, sizes and what is done to them."""

from __future__ import annotations

from typing import Any

from impasto.compat.nested import count, sides
from impasto.compat.translating import Desk, tidy

LIKE = ("captions", "augment", "masks")


def data(desk: Desk) -> None:
    """All of it."""
    sets: list[dict[str, Any]] = []
    for at in range(count(desk, "datasets")):
        sets += _dataset(desk, f"datasets[{at}].")
    _common(desk, sets)
    if sets:
        desk.set("data.sets", sets)
        desk.set("data.buckets.upscale", False, "pictures are never enlarged there")
    if many := desk.whole("train.batch_size"):
        desk.put("train.batch_size", ("data.batch_size", many))


def _dataset(desk: Desk, at: str) -> list[dict[str, Any]]:
    """A set for each of its sizes: each picture is seen in all of them."""
    name = f"{at}folder_path" if desk.has(f"{at}folder_path") else f"{at}dataset_path"
    one: dict[str, Any] = {"path": desk.text(name) or ".", "repeats": 1}  # names of folders say nothing there
    desk.done(name, "same", "", settings=["data.sets.path"])
    if desk.flag(f"{at}is_reg"):
        one["role"] = "regularization"
        desk.done(f"{at}is_reg", "same", "", settings=["data.sets.role"])
    if (many := desk.whole(f"{at}num_repeats")) and many > 0:
        one["repeats"] = many
        desk.done(f"{at}num_repeats", "same", "", settings=["data.sets.repeats"])
    for section, values in zip(LIKE, (_captions(desk, at), _augment(desk, at), _masks(desk, at)), strict=True):
        if values:
            one[section] = values
    for each in ("is_reg", "cache_latents", "cache_latents_to_disk", "cache_text_embeddings"):
        if desk.has(f"{at}{each}") and "cache" in each:
            desk.better(f"{at}{each}", "what is encoded is kept by all that it depends on, so it is never out of date")
        desk.same(f"{at}{each}", "off")
    if desk.number(f"{at}network_weight") == 1:
        desk.same(f"{at}network_weight", "1: the whole")
    if (desk.number(f"{at}num_frames") or 1) == 1:
        desk.same(f"{at}num_frames", "pictures")
    if not desk.has(f"{at}resolution") or desk.peek(f"{at}resolution") in (None, []):
        return [one]
    found = sides(desk.peek(f"{at}resolution"))
    why = "each picture is seen at each of them in an epoch" if len(found) > 1 else ""
    desk.done(f"{at}resolution", "same", why, settings=["data.sets.resolution"])
    return [{**one, "resolution": each} for each in found]


def _captions(desk: Desk, at: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if ending := desk.text(f"{at}caption_ext"):
        made["extensions"] = [f".{ending.lstrip('.')}"]
        desk.done(f"{at}caption_ext", "same", "", settings=["data.captions.extensions"])
    if words := desk.text(f"{at}default_caption"):
        made["text"] = words
        desk.done(f"{at}default_caption", "same", "for pictures without one", settings=["data.captions.text"])
    if share := desk.number(f"{at}caption_dropout_rate"):
        made["dropout"] = tidy(share)
        desk.done(f"{at}caption_dropout_rate", "same", "", settings=["data.captions.dropout"])
    if share := desk.number(f"{at}token_dropout_rate"):
        made["tag_dropout"] = tidy(share)
        desk.done(f"{at}token_dropout_rate", "same", "", settings=["data.captions.tag_dropout"])
    if desk.flag(f"{at}shuffle_tokens"):
        made["shuffle"] = True
        desk.done(f"{at}shuffle_tokens", "same", "", settings=["data.captions.shuffle"])
        if kept := desk.whole(f"{at}keep_tokens"):
            made["keep_tokens"] = kept
            desk.done(f"{at}keep_tokens", "same", "", settings=["data.captions.keep_tokens"])
    for name in ("default_caption", "caption_dropout_rate", "token_dropout_rate", "shuffle_tokens", "keep_tokens"):
        desk.same(f"{at}{name}", "off, or empty")
    return made


def _augment(desk: Desk, at: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, key in (("flip_x", "flip"), ("random_crop", "random_crop")):
        if desk.flag(f"{at}{name}"):
            made[key] = True
            desk.done(f"{at}{name}", "same", "", settings=[f"data.augment.{key}"])
        desk.same(f"{at}{name}", "off")
    return made


def _masks(desk: Desk, at: str) -> dict[str, Any]:
    folder = desk.text(f"{at}mask_path")
    if not folder:
        desk.same(f"{at}mask_path", "none")
        desk.same(f"{at}mask_min_value", "there is no mask")
        return {}
    desk.done(f"{at}mask_path", "same", "", settings=["data.masks.folder"])
    if least := desk.number(f"{at}mask_min_value"):
        desk.set("objective.mask.floor", tidy(least))
        desk.done(f"{at}mask_min_value", "same", "", settings=["objective.mask.floor"])
    return {"folder": folder}


def _common(desk: Desk, sets: list[dict[str, Any]]) -> None:
    """What all sets share is said once."""
    for section in (*LIKE, "resolution"):
        found = [each.get(section) for each in sets]
        if not found or not found[0] or any(each != found[0] for each in found):
            continue
        for each in sets:
            del each[section]
        if isinstance(found[0], dict):
            for key, value in found[0].items():
                desk.set(f"data.{section}.{key}", value)
        else:
            desk.set(f"data.{section}", found[0])

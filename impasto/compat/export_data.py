"""Folders, captions and buckets, as arguments of sd-scripts or as a dataset file."""

from __future__ import annotations

from typing import Any

from impasto.compat.dataset_words import CAPTIONS
from impasto.compat.export import Exported
from impasto.config import RunConfig
from impasto.data.config import Augment, Captions, Data, Dataset, Masks
from impasto.settings.toml import literal


def data(made: Exported, config: RunConfig) -> None:
    """One folder for training and one for regularization need no dataset file."""
    held = config.data
    sets = [each for each in held.sets if each.role != "validation"]
    plain = [each for each in sets if _is_plain(each)]
    train = [each for each in sets if each.role == "train"]
    if (
        len(plain) == len(sets)
        and len(train) <= 1
        and len(sets) <= len(train) + 1
        and held.captions.missing == "folder"
    ):
        for one in sets:
            made.put("train_data_dir" if one.role == "train" else "reg_data_dir", str(one.path))
        made.args |= _rules(made, held.captions, held.augment, held.masks)
        if held.captions.metadata:
            made.put("in_json", str(held.captions.metadata))
        made.args |= _shape(held, None)
        made.args["train_batch_size"] = held.batch_size
    else:
        made.dataset = _file(made, held, sets)
    if any(held.masks_of(each).folder or held.masks_of(each).suffix for each in sets):
        made.put("masked_loss", True)
    made.put("cache_latents", held.cache and not any(held.augment_of(each).varies for each in sets), False)
    made.put("max_data_loader_n_workers", held.workers)
    made.put("vae_batch_size", held.vae_batch_size, 1)
    made.put("text_encoder_batch_size", held.text_encoder_batch_size, 1)
    if held.buckets.enabled and held.buckets.rule == "log":
        made.lose('data.buckets.rule = "log"', "there, upright and wide pictures are not treated alike (Q-D2)")
    usual = Data()
    for name in ("alpha", "bad_pictures", "bad_share", "prefetch"):
        if getattr(held, name) != getattr(usual, name):
            made.lose(f"data.{name}")


def _is_plain(one: Dataset) -> bool:
    own = (one.captions, one.augment, one.masks, one.resolution, one.batch_size, one.repeats)
    return all(each is None for each in own) and one.weight == 1


def _shape(held: Data, one: Dataset | None) -> dict[str, Any]:
    """Resolution and buckets."""
    size = held.resolution if one is None or one.resolution is None else one.resolution
    sides = (size, size) if isinstance(size, int) else size
    found: dict[str, Any] = {}
    if sides is not None:
        found["resolution"] = f"{sides[0]},{sides[1]}"
    if held.buckets.enabled:
        native = sides or (512, 512)
        found["enable_bucket"] = True
        found["bucket_reso_steps"] = held.buckets.step or 64
        found["min_bucket_reso"] = held.buckets.smallest or min(native) // 2
        found["max_bucket_reso"] = held.buckets.largest or max(native) * 2
        if not held.buckets.upscale:
            found["bucket_no_upscale"] = True
    return found


def _rules(made: Exported, captions: Captions, augment: Augment, masks: Masks) -> dict[str, Any]:
    found: dict[str, Any] = {"caption_extension": captions.extensions[0]} if captions.extensions else {}
    if len(captions.extensions) > 1:
        made.lose("data.captions.extensions", "only the first")
    usual = Captions()
    for name, ours in CAPTIONS.items():
        if (value := getattr(captions, ours)) != getattr(usual, ours):
            found[name] = value
    if captions.prefix:
        found["caption_prefix"] = captions.prefix.removesuffix(" ")
    if captions.suffix:
        found["caption_suffix"] = captions.suffix.removeprefix(" ")
    if captions.wildcards or captions.lines == "random":
        found["enable_wildcard"] = True
        if not (captions.wildcards and captions.lines == "random"):
            made.lose("data.captions.lines", "one switch is for wildcards and lines")
    if captions.tag_warmup is not None:
        found["token_warmup_step"] = captions.tag_warmup
        found["token_warmup_min"] = captions.tag_warmup_from
    for name, on in (("flip_aug", augment.flip), ("random_crop", augment.random_crop), ("alpha_mask", masks.alpha)):
        if on:
            found[name] = True
    if augment.color:
        found["color_aug"] = True
    if augment.face_crop:
        made.lose("data.augment.face_crop", "there, faces are read from file names, and only without buckets")
    if augment.variants is not None:
        made.lose("data.augment.variants")
    return found


def _file(made: Exported, held: Data, sets: list[Dataset]) -> str:
    lines = []
    for one in sets:
        captions = held.captions_of(one)
        shape = _shape(held, one)
        sides = shape.pop("resolution", None)
        lines += ["[[datasets]]"]
        if sides:
            lines.append(f"resolution = {literal([int(each) for each in sides.split(',')])}")
        lines.append(f"batch_size = {held.batch_size_of(one)}")
        lines += [f"{name} = {literal(value)}" for name, value in shape.items()]
        lines += ["", "[[datasets.subsets]]", f"image_dir = {literal(one.path)}"]
        lines.append(f"num_repeats = {one.repeats or 1}")
        if one.role == "regularization":
            lines.append("is_reg = true")
        if captions.text is not None:
            lines.append(f"class_tokens = {literal(captions.text)}")
        if captions.metadata is not None:
            lines.append(f"metadata_file = {literal(captions.metadata)}")
        masks = held.masks_of(one)
        if masks.folder is not None:
            lines.append(f"conditioning_data_dir = {literal(masks.folder)}")
        rules = _rules(made, captions, held.augment_of(one), masks)
        lines += [f"{name} = {literal(value)}" for name, value in rules.items()] + [""]
        if one.weight != 1:
            made.lose("data.sets.weight")
    return "\n".join(lines)

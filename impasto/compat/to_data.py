"""Folders, captions, buckets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from impasto.compat.dataset_words import CALLED, CAPTIONS, DATASET, INHERITED, OWN
from impasto.compat.recipe import Given, Recipe, Result
from impasto.compat.tables import flags
from impasto.compat.translating import Desk, Odd, as_number, remark, tidy

FLAGS = {
    **{f"captions.{ours}": there for there, ours in CAPTIONS.items()},
    "captions.wildcards": "enable_wildcard",
    "augment.flip": "flip_aug",
    "augment.random_crop": "random_crop",
    "augment.color": "color_aug",
    "augment.face_crop": "face_crop_aug_range",
    "masks.folder": "conditioning_data_dir",
}
"""Which option a setting of a set comes from."""

MOST = 10_000
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

COLOUR = 0.33
"""How often colours are shifted there."""


def data(desk: Desk) -> None:
    """Folders from a dataset file, or from arguments."""
    if desk.recipe.datasets is not None:
        for name in ("train_data_dir", "reg_data_dir", "in_json"):
            if desk.text(name):
                desk.same(name, "not read there beside a dataset file")
        _from_file(desk)
    elif desk.trains:
        _from_arguments(desk)
    for name in ("cache_latents", "cache_latents_to_disk", "cache_text_encoder_outputs",
                 "cache_text_encoder_outputs_to_disk"):  # fmt: skip
        if desk.has(name) and not desk.flag(name):
            desk.same(name, "off; here what is encoded is kept, and is always right")
    if (count := desk.whole("max_data_loader_n_workers")) is not None:
        if count > 1:
            desk.put("max_data_loader_n_workers", ("data.workers", min(count, 64)))
        else:
            desk.same("max_data_loader_n_workers", "one thread, as by default")


def _from_arguments(desk: Desk) -> None:
    """`N_concept` folders: the whole folder is one set, and names say how often each part is seen."""
    held = {name: given for name, given in desk.recipe.args.items()}
    sets: list[dict[str, Any]] = []
    captions, augment, masks = _rules(_Held(held), desk)
    by_file = desk.text("in_json")
    if not by_file:
        captions["missing"] = "folder"
    if path := desk.text("train_data_dir"):
        _only_named(desk, path, metadata=bool(by_file))
        one: dict[str, Any] = {"path": path}
        if by_file:
            captions["metadata"] = by_file
            one["repeats"] = desk.whole("dataset_repeats") or 1
        sets.append(one)
        desk.put("train_data_dir", plain=True)
        _settings(desk, "data.sets.path")
        desk.comments["data", "sets", 0, "path"] = (
            "folders named like 10_name say how often; the name is the caption of pictures without one"
        )
    if not sets and desk.text("reg_data_dir"):
        desk.lost("reg_data_dir", "without a train_data_dir there is nothing that it keeps")
    if path := desk.text("reg_data_dir"):
        sets.append({"path": path, "role": "regularization"})
        desk.put("reg_data_dir", why="all of them take turns, not always the first ones", quirks=["Q-D19"])
        _settings(desk, "data.sets.role")
        desk.comments["data", "sets", len(sets) - 1, "role"] = (
            "all of them take turns, not always the first ones (Q-D19)"
        )
    _spread(desk, captions, augment, masks)
    if by_file:
        desk.put("in_json", plain=True)
        _settings(desk, "data.captions.metadata")
        desk.same("dataset_repeats", "as data.sets.repeats")
    if sets:
        desk.set("data.sets", sets)
    _size(desk, _Held(held))
    _buckets(desk, _Held(held))
    for name in (*INHERITED, *DATASET):
        _told(desk, CALLED.get(name, name))


def _only_named(desk: Desk, path: str, *, metadata: bool) -> None:
    """What lies in the folder and is not read there: only folders whose name begins with a number are."""
    folder = Path(path).expanduser()
    if metadata or desk.recipe.alone or not folder.is_dir():
        return
    found = sorted(each.name for each in islice(folder.iterdir(), MOST))
    others = [each for each in found if (folder / each).is_dir() and not re.match(r"0*[1-9]\d*(_|$)", each)]
    loose = [each for each in found if Path(each).suffix.lower() in PICTURES]
    if others or loose:
        named = ", ".join((others + loose)[:3])
        why = f"{named} in it would be read here, and is not there: move it, or name its folder like 10_name"
        desk.difference("train_data_dir", "lost", why)


class _Held:
    """Options with those above them: a subset's, its dataset's, the general ones, arguments."""

    def __init__(self, args: Mapping[str, Given], *tables: Mapping[str, Any]) -> None:
        self.tables = tables
        named = {CALLED.get(name, name): name for name in (*DATASET, *INHERITED, *OWN)}
        self.args = {named[name]: _whole_text(name, given.value) for name, given in args.items() if name in named}

    def get(self, name: str) -> Any:
        for table in self.tables:
            if table.get(name) is not None:
                return table[name]
        return self.args.get(name)

    def flag(self, name: str) -> bool:
        try:
            return Desk(Recipe("", "", args={name: Given(name, self.get(name))})).flag(name)
        except Odd as odd:
            raise Odd(f"{name}: {odd}", CALLED.get(name, name)) from None

    def number(self, name: str) -> float | None:
        value = self.get(name)
        try:
            return None if value in (None, "") else as_number(value)
        except Odd as odd:
            raise Odd(f"{name}: {odd}", CALLED.get(name, name)) from None

    def whole(self, name: str) -> int | None:
        found = self.number(name)
        if found is not None and found != int(found):
            raise Odd(f"{name}: {found} is no whole number", CALLED.get(name, name))
        return None if found is None else int(found)


def _whole_text(name: str, value: Any) -> Any:
    """Words that were cut apart on the way are one text again."""
    return " ".join(value) if isinstance(value, list) and name in ("caption_prefix", "caption_suffix") else value


def _rules(held: _Held, desk: Desk) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Caption rules, augmentation and masks of one set."""
    captions: dict[str, Any] = {}
    extension = held.get("caption_extension") or (".caption" if desk.exact else "")
    if extension:
        captions["extensions"] = [extension if str(extension).startswith(".") else f".{extension}"]
    for name, key in CAPTIONS.items():
        value = held.get(name)
        if name == "shuffle_caption":
            value = held.flag(name)
        elif key in ("keep_tokens", "dropout_every_epochs"):
            value = held.whole(name)
        elif key in ("dropout", "tag_dropout"):
            number = held.number(name)
            value = number if number is None else tidy(number) if number == 0 else number
        if value and not (name == "caption_separator" and value == ","):
            captions[key] = value
    if prefix := held.get("caption_prefix"):
        captions["prefix"] = f"{prefix} "
    if suffix := held.get("caption_suffix"):
        captions["suffix"] = f" {suffix}"
    if held.flag("enable_wildcard"):
        captions |= {"wildcards": True, "lines": "random"}
    if step := held.number("token_warmup_step"):
        captions["tag_warmup"] = int(step) if step >= 1 else step
        if (least := held.whole("token_warmup_min")) is not None and least != 1:
            captions["tag_warmup_from"] = least
    augment: dict[str, Any] = {}
    for name, key in (("flip_aug", "flip"), ("random_crop", "random_crop")):
        if held.flag(name):
            augment[key] = True
    if held.flag("color_aug"):
        augment["color"] = COLOUR
    face = held.get("face_crop_aug_range")
    if face:
        parts = face if isinstance(face, list) else str(face).split(",")
        if len(parts) != 2:
            raise Odd(f"face_crop_aug_range: {face} is no pair", "face_crop_aug_range")
        augment["face_crop"] = [as_number(each, "face_crop_aug_range") for each in parts]
    masks: dict[str, Any] = {}
    if held.flag("alpha_mask"):
        masks["alpha"] = True
    if folder := held.get("conditioning_data_dir"):
        masks["folder"] = folder
    return captions, augment, masks


def _spread(desk: Desk, captions: dict[str, Any], augment: dict[str, Any], masks: dict[str, Any]) -> None:
    """What holds for all sets."""
    for section, values in (("captions", captions), ("augment", augment), ("masks", masks)):
        for key, value in values.items():
            desk.set(f"data.{section}.{key}", value, _remark(section, key))


def _remark(section: str, key: str) -> str:
    """What the table of flags says of a setting, where it is better."""
    flag = FLAGS.get(f"{section}.{key}", "")
    row = flags().get(flag)
    return remark(row.reason, row.quirks, "") if row and row.verdict == "better" and flag not in PLAIN else ""


def _size(desk: Desk, held: _Held) -> None:
    size = _resolution(held.get("resolution"))
    if size is not None:
        desk.set("data.resolution", size)
    if (count := held.whole("batch_size")) and count > 0:
        desk.set("data.batch_size", count)


def _resolution(value: Any) -> Any:
    """768, "768", "768,512" or [768, 512]: width first."""
    if value in (None, "", [], ()):
        return None
    parts = value if isinstance(value, list | tuple) else str(value).strip("()[] ").split(",")
    sides = [int(as_number(each, "resolution")) for each in parts]
    return sides[0] if len(set(sides)) == 1 else sides


def _buckets(desk: Desk, held: _Held) -> None:
    if not held.flag("enable_bucket"):
        desk.set("data.buckets.enabled", False)
        return
    desk.set("data.buckets.step", held.whole("bucket_reso_steps") or 64)
    smallest, largest = held.whole("min_bucket_reso") or 256, held.whole("max_bucket_reso") or 1024
    if held.flag("bucket_no_upscale"):
        why = "up to 5 % of enlarging saves cutting a step away; the largest side holds (Q-D3)"
        desk.set("data.buckets.upscale", False, "" if desk.exact else why)
        desk.difference("bucket_no_upscale", "better", why.removesuffix(" (Q-D3)"), "Q-D3")
    desk.set("data.buckets.smallest", smallest)
    desk.set("data.buckets.largest", largest)
    if desk.exact:
        desk.set("data.buckets.rule", "kohya")
    else:
        desk.difference("enable_bucket", "better", "upright and wide pictures are treated alike", "Q-D2")


# -- dataset files -----------------------------------------------------------------------------------------------------


def _from_file(desk: Desk) -> None:
    file = desk.recipe.datasets
    assert file is not None
    where = desk.recipe.dataset_name
    general = file.get("general") or {}
    if not isinstance(general, dict):
        raise Odd(f"{where}: general is no table")
    args = dict(desk.recipe.args)
    sets: list[dict[str, Any]] = []
    layers: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = []
    shapes: list[_Held] = []
    _strangers(desk, "general", general, (*DATASET, *INHERITED))
    for number, dataset in enumerate(file.get("datasets", [])):
        if not isinstance(dataset, dict):
            continue
        _strangers(desk, f"datasets[{number}]", dataset, (*DATASET, *INHERITED, "subsets"))
        shapes.append(_Held(args, dataset, general))
        subsets = [each for each in dataset.get("subsets", []) if isinstance(each, dict)]
        for at, subset in enumerate(subsets):
            place = f"datasets[{number}].subsets[{at}]"
            _strangers(desk, place, subset, (*INHERITED, *OWN))
            held = _Held(args, subset, dataset, general)
            one, rules = _subset(desk, held, place)
            sets.append(one)
            layers.append(rules)
        if len([each for each in subsets if not each.get("is_reg")]) > 1:
            why = "micro-batches are made within a folder; there, those of one dataset are mixed"
            desk.difference(f"datasets[{number}]", "lost", why)
    _common(desk, sets, shapes)
    _lay(desk, sets, layers)
    if sets:
        desk.set("data.sets", sets)
    if shapes:
        _buckets(desk, shapes[0])
        for name in ("enable_bucket", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale"):
            if len({str(each.get(name)) for each in shapes}) > 1:
                desk.difference(f"datasets.{name}", "lost", "buckets are alike for all sets; those of the first count")
    for name in (*INHERITED, *DATASET, "conditioning_data_dir"):
        _told(desk, CALLED.get(name, name))


def _subset(desk: Desk, held: _Held, place: str) -> tuple[dict[str, Any], Any]:
    one: dict[str, Any] = {"path": str(held.get("image_dir") or ".")}
    if not held.get("image_dir"):
        desk.difference(place, "lost", "no image_dir: its file names the pictures, so give the folder they are in")
    attributes = held.get("custom_attributes")
    kept = isinstance(attributes, dict) and attributes.get("diff_output_preservation")
    if held.flag("is_reg") or kept:
        one["role"] = "regularization"
    if kept:
        desk.set("objective.prior_target", "base", "diff_output_preservation")
        why = "its pictures count as regularization pictures, so they take turns until there are as many as others"
        desk.difference(f"{place} custom_attributes", "better", why)
    one["repeats"] = held.whole("num_repeats") or 1
    size, count = _resolution(held.get("resolution")), held.whole("batch_size")
    one |= {} if size is None else {"resolution": size}
    one |= {"batch_size": count} if count else {}
    captions, augment, masks = _rules(held, desk)
    if metadata := held.get("metadata_file"):
        captions["metadata"] = metadata
    if held.get("class_tokens") is not None:
        captions["text"] = held.get("class_tokens")
    elif not metadata:
        captions["missing"] = "empty"
    if isinstance(attributes, dict) and not kept and attributes:
        desk.difference(f"{place} custom_attributes", "lost", "nothing here reads them")
    return one, (captions, augment, masks)


def _common(desk: Desk, sets: list[dict[str, Any]], shapes: list[_Held]) -> None:
    """What all sets share is said once."""
    for name, usual in (("resolution", None), ("batch_size", 1)):
        values = [each.get(name) for each in sets]
        if values and all(each == values[0] for each in values):
            for each in sets:
                each.pop(name, None)
            if values[0] not in (None, usual):
                desk.set(f"data.{name}", values[0])


def _lay(desk: Desk, sets: list[dict[str, Any]], layers: list[Any]) -> None:
    for at, section in enumerate(("captions", "augment", "masks")):
        all_of = [each[at] for each in layers]
        if all_of and all(each == all_of[0] for each in all_of):
            for key, value in all_of[0].items():
                desk.set(f"data.{section}.{key}", value, _remark(section, key))
        else:
            for number, (one, values) in enumerate(zip(sets, all_of, strict=True)):
                if values:
                    one[section] = values
                for key in values:
                    desk.comments["data", "sets", number, section, key] = _remark(section, key)


def _strangers(desk: Desk, place: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    from impasto.settings.suggest import nearest

    for name, value in table.items():
        full = f"{place}.{name}"
        if name in known:
            if name not in ("subsets", "custom_attributes"):
                desk.results.append(_of_dataset(name, full, value, desk))
        else:
            near = nearest(str(name), known)
            why = f"unknown there too; the nearest name is {near}" if near else "unknown there too"
            desk.results.append(Result(full, value, "unknown", reason=why))


def _of_dataset(name: str, full: str, value: Any, desk: Desk) -> Result:
    if name in ("validation_split", "validation_seed"):
        why = "one share holds for all pictures here: validation.share"
        return Result(full, value, "lost" if value else "same", reason=why)
    if name in ("network_multiplier",):
        return Result(full, value, "same", reason="has no effect there")
    return _judged(desk, CALLED.get(name, name), full, value)


def _judged(desk: Desk, flag: str, shown: str, value: Any) -> Result:
    """What the table of flags says, of a value that is on."""
    row = flags().get(flag)
    if value in (None, False, "", 0, []):
        return Result(shown, value, "same", reason="off or empty")
    if flag == "masked_loss" or row is None:
        return Result(shown, value, "same")
    if row.verdict in ("absent", "later"):
        return Result(shown, value, "lost", reason=row.reason)
    if row.verdict == "better" and flag not in PLAIN:
        return Result(shown, value, "better", row.names, row.reason, row.quirks)
    return Result(shown, value, "same", row.names)


PLAIN = ("resolution", "bucket_reso_steps", "enable_bucket", "caption_extension", "caption_separator")
"""Better for what happens when nothing is said; what is said is done."""


def _told(desk: Desk, name: str) -> None:
    """Note what became of an argument whose value is in a section by now."""
    given = desk.recipe.args.get(name)
    if given is None or name in ("validation_seed", "validation_split"):
        return
    made = _judged(desk, name, given.name, given.value)
    desk.recipe.args.pop(name)
    desk.results.append(
        Result(made.name, made.value, made.outcome, made.settings, made.reason, made.quirks, given.usual)
    )


def _settings(desk: Desk, *keys: str) -> None:
    from dataclasses import replace

    desk.results[-1] = replace(desk.results[-1], settings=keys)

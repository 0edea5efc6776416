"""A folder of pictures as the browser sees it: pages, issues, changes, and each picture as training would see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from impasto.config import RunConfig
from impasto.data import buckets, captions, retag
from impasto.data.config import Data, Dataset, Masks
from impasto.data.gallery import SHARP, Gallery, Picture
from impasto.errors import Problem
from impasto.families import detect, t5_tokens, tokens
from impasto.families.card import Card
from impasto.families.config import Model
from impasto.web import planning
from impasto.web.folders import Folder, Shelf
from impasto.web.problems import Refused, absent
from impasto.web.views_datasets import (
    AsTrained,
    CaptionsGiven,
    Crop,
    DatasetRow,
    DatasetView,
    IssueRow,
    PictureRow,
    SavedView,
    StepRow,
    TagRow,
    TokenPiece,
)

Sort = Literal["name", "longest", "shortest", "largest", "smallest", "newest"]

SHOWN_TAGS = 300
USUAL = 512
"""Pixels of a side, where nobody says what is trained at."""

ISSUES = {
    "broken": ("cannot be read", "open it in a picture editor and save it again, or remove it"),
    "no_caption": ("have no caption", "write one, or set data.captions.text or data.captions.missing"),
    "bad_caption": ("have a caption file that cannot be read", "save it as UTF-8 text"),
    "no_trigger": ("lack the trigger that most captions begin with", "add it: Add tag, at the start"),
    "duplicate": ("look the same as another one", "keep the best of each group: copies count twice"),
    "tiny": ("are much smaller than what is trained at", "find a larger version, or train at a lower resolution"),
    "blurred": ("may be blurred", "look at them; leave out what is not sharp"),
}
"""What may be wrong with pictures, and what helps."""


@dataclass(frozen=True)
class Look:
    """A folder, looked at once for one answer."""

    pictures: Mapping[str, Picture]
    counts: Counter[str]
    trigger: str
    copies: frozenset[str]
    """All but the first of each group that looks the same."""
    side: int

    def issues(self, gallery: Gallery, picture: Picture) -> list[str]:
        """What is wrong with a picture, as far as it is known."""
        seen = gallery.known(picture)
        found = []
        if seen is not None and seen.fault:
            found.append("broken")
        if picture.fault:
            found.append("bad_caption")
        elif not picture.caption:
            found.append("no_caption")
        elif self.trigger and self.trigger not in retag.tags(picture.caption):
            found.append("no_trigger")
        if picture.id in self.copies:
            found.append("duplicate")
        if seen is not None and seen.size and 2 * seen.size[0] * seen.size[1] < self.side**2:
            found.append("tiny")
        if seen is not None and seen.sharp is not None and seen.sharp < SHARP:
            found.append("blurred")
        return found


def look(gallery: Gallery, trigger: str | None = None, side: int = USUAL) -> Look:
    """Look at a folder."""
    pictures = gallery.pictures()
    gallery.look_closely()
    texts = [each.caption for each in pictures.values()]
    copies = frozenset(id for group in gallery.copies() for id in group[1:])
    found = _trigger(texts) if trigger is None else trigger
    return Look(pictures, retag.counted(texts), found, copies, side)


def row(shelf: Shelf, folder: Folder) -> DatasetRow:
    """A folder in the list."""
    gallery = shelf.gallery(folder)
    pictures = gallery.pictures()
    told = sum(bool(each.caption) for each in pictures.values())
    warnings = []
    if not Path(folder.path).is_dir():
        warnings.append("the folder is not there any more")
    elif not pictures:
        warnings.append("there are no pictures in it")
    elif told < len(pictures):
        without = len(pictures) - told
        warnings.append("1 picture has no caption" if without == 1 else f"{without} pictures have no caption")
    bad = sum(bool(each.fault) for each in pictures.values())
    warnings += [f"{bad} caption file{'s' * (bad > 1)} cannot be read"] if bad else []
    return DatasetRow(
        id=folder.id, name=_plain(Path(folder.path).name), path=_plain(folder.path), count=len(pictures), captions=told,
        coverage=told / max(1, len(pictures)), warnings=warnings, added=folder.added, cover=list(pictures)[:4],
    )  # fmt: skip


def page(
    shelf: Shelf, folder: Folder, *, offset: int, limit: int, query: str, tag: str, issue: str, sort: Sort,
    trigger: str | None, side: int,
) -> DatasetView:  # fmt: skip
    """A page of a folder's pictures."""
    gallery, history = shelf.gallery(folder), shelf.history(folder)
    found = look(gallery, trigger, side)
    issues = {each.id: found.issues(gallery, each) for each in found.pictures.values()}
    kept = [each for each in found.pictures.values() if _wanted(each, issues[each.id], query, tag, issue)]
    shown = _sorted(gallery, kept, sort)[offset : offset + limit]
    counts = Counter(code for each in issues.values() for code in each)
    told = sum(bool(each.caption) for each in found.pictures.values())
    return DatasetView(
        id=folder.id, name=_plain(Path(folder.path).name), path=_plain(folder.path), count=len(found.pictures),
        coverage=told / max(1, len(found.pictures)), total=len(kept),
        pictures=[_picture(gallery, found, each) for each in shown],
        tags=[TagRow(tag=tag, count=count) for tag, count in found.counts.most_common(SHOWN_TAGS)],
        issues=[
            IssueRow(code=code, title=title, count=counts[code], fix=fix)
            for code, (title, fix) in ISSUES.items() if counts[code]
        ],
        trigger=found.trigger, version=history.version(),
        history=[
            StepRow(version=each.number, at=each.at, what=each.what, changed=each.changed, undone=each.undone)
            for each in history.steps()[:50]
        ],
        looked=gallery.looked_closely(),
    )  # fmt: skip


def save(shelf: Shelf, folder: Folder, given: CaptionsGiven) -> SavedView:
    """Write captions into the folder, all of them or, where one cannot be, none."""
    gallery, history = shelf.gallery(folder), shelf.history(folder)
    pictures = gallery.pictures(now=True)
    missing = next((id for id in given.changes if id not in pictures), None)
    if missing is not None:
        raise absent(missing)
    if given.version is not None and given.version != history.version():
        fix = "load the page again; what you wrote is still in it"
        raise Refused(409, Problem("E-WEB-024", "somebody has saved captions here since", folder.id, fix))
    texts: dict[Path, str] = {}
    for id, text in given.changes.items():
        file = Path(pictures[id].file)
        if texts.setdefault(file, text) != text:
            what = "two pictures share this caption file, and were given different captions"
            raise Refused(422, Problem("E-WEB-025", what, _plain(file.name), "give both the same"))
    saved = history.save(texts, given.what or f"{len(texts)} captions")
    gallery.pictures(now=True)
    return SavedView(saved=saved, version=history.version())


def as_trained(picture: Picture, gallery: Gallery, config: RunConfig) -> AsTrained:
    """What of a picture and its caption training with these settings would see, by the code that trains."""
    seen, data = gallery.seen(picture), config.data
    if seen.size is None:
        raise Refused(422, Problem("E-WEB-026", seen.fault or "it cannot be read", picture.id, "see its issues"))
    config, away = planning.at_hand(config)
    if away:
        raise Refused(422, *away)
    card = detect.look(config.model, heads=True)
    own = _set_of(data, gallery.root)
    rules, augment = data.captions_of(own), data.augment_of(own)
    placed = buckets.layout(data, seen.size, data.resolution_of(own, (card.resolution, card.resolution)), card.step)
    scale = placed.resized[0] / seen.size[0], placed.resized[1] / seen.size[1]
    caption = captions.complete(picture.caption or rules.text or "", rules)
    pieces, limit, reader = _tokens(card, config.model, caption)
    return AsTrained(
        width=seen.size[0], height=seen.size[1],
        crop=Crop(
            left=placed.crop[0] / scale[0], top=placed.crop[1] / scale[1], width=placed.bucket.width / scale[0],
            height=placed.bucket.height / scale[1],
        ),
        bucket=(placed.bucket.width, placed.bucket.height), scale=placed.enlarged(seen.size), flip=augment.flip,
        by_dice=augment.varies, mask=_mask(picture, gallery, data.masks_of(own)), caption=caption,
        changes=captions.changes_per_visit(rules),
        tokens=[TokenPiece(text=text, cut=at >= limit) for at, text in enumerate(pieces)], limit=limit,
        base=card.name, reader=reader,
    )  # fmt: skip


def usual(folder: Path, base: str, side: int | None) -> RunConfig:
    """Settings that train on a folder and say nothing else."""
    return RunConfig(model=Model(path=base), data=Data(sets=(Dataset(path=folder),), resolution=side))


def _set_of(data: Data, root: Path) -> Dataset:
    """The set that reads this folder."""
    for each in data.sets:
        if root.is_relative_to(each.path.resolve()):
            return each
    return Dataset(path=root)


def _mask(picture: Picture, gallery: Gallery, masks: Masks) -> str | None:
    """The picture beside it that is its mask."""
    if not masks.suffix or masks.folder is not None:
        return None
    stem = f"{picture.id.rpartition('.')[0]}{masks.suffix}."
    return next((id for id in gallery.pictures() if id.startswith(stem)), None)


def _tokens(card: Card, model: Model, caption: str) -> tuple[list[str], int, str]:
    """By the text encoder that reads most."""
    if "text_encoder_3" in card.configs:
        reader = t5_tokens.tokenizer(t5_tokens.folder_of(card))
        return *t5_tokens.pieces(reader, caption, model.t5_tokens or card.t5_tokens), "T5"
    return *tokens.pieces(card, model, caption), f"CLIP of {card.title}"


def _picture(gallery: Gallery, found: Look, picture: Picture) -> PictureRow:
    seen = gallery.seen(picture)
    width, height = seen.size or (None, None)
    return PictureRow(
        id=picture.id, name=picture.id.rpartition("/")[2], width=width, height=height, size=picture.bytes,
        caption=picture.caption, tags=retag.tags(picture.caption), issues=found.issues(gallery, picture),
    )  # fmt: skip


def _wanted(picture: Picture, issues: Sequence[str], query: str, tag: str, issue: str) -> bool:
    words = query.casefold()
    return (
        (not words or words in picture.id.casefold() or words in picture.caption.casefold())
        and (not tag or tag in retag.tags(picture.caption))
        and (not issue or issue in issues or (issue == "any" and bool(issues)))
    )


def _sorted(gallery: Gallery, pictures: list[Picture], sort: Sort) -> list[Picture]:
    def area(each: Picture) -> int:
        width, height = gallery.seen(each).size or (0, 0)
        return width * height

    match sort:
        case "name":
            return pictures
        case "longest":
            return sorted(pictures, key=lambda each: -len(each.caption))
        case "shortest":
            return sorted(pictures, key=lambda each: len(each.caption))
        case "largest":
            return sorted(pictures, key=area, reverse=True)
        case "smallest":
            return sorted(pictures, key=area)
        case "newest":
            return sorted(pictures, key=lambda each: -each.mark[1])


def _trigger(texts: Sequence[str]) -> str:
    """The tag that most captions begin with, if most do."""
    told = [own[0] for text in texts if (own := retag.tags(text))]
    if len(told) < 3:
        return ""
    first, count = Counter(told).most_common(1)[0]
    return first if count >= 0.6 * len(told) and len(first) <= 60 else ""


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()

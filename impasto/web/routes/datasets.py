"""Folders of pictures and their captions."""

from __future__ import annotations

from pathlib import Path as Place
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from impasto.config import MODEL_NAMES
from impasto.data import retag
from impasto.data.gallery import Gallery, Picture
from impasto.data.retag import Edit
from impasto.web import datasets, draft, folders, pictures
from impasto.web.datasets import Sort
from impasto.web.desk import At, Desk
from impasto.web.problems import Refused, absent
from impasto.web.views_datasets import (
    AsTrained,
    AsTrainedGiven,
    CaptionChange,
    CaptionsGiven,
    Copies,
    DatasetRow,
    Datasets,
    DatasetView,
    EditGiven,
    EditPreview,
    FolderGiven,
    Folders,
    PairRow,
    SavedView,
    TagRow,
    Tags,
    Undone,
)

router = APIRouter(tags=["datasets"])

Id = Annotated[str, Path(min_length=1, max_length=200)]
Pic = Annotated[str, Path(min_length=1, max_length=8192)]
Words = Annotated[str, Query(max_length=500)]
Side = Annotated[int, Query(ge=64, le=8192)]
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.get("/folders")
def folder_list(desk: At, path: Annotated[str, Query(max_length=4096)] = "") -> Folders:
    """The folders in a folder, to choose one; without a path: the roots."""
    return folders.within(path, desk.site)


@router.get("/datasets")
def dataset_list(desk: At) -> Datasets:
    """All folders of pictures that are looked at."""
    return Datasets(datasets=[datasets.row(desk.folders, each) for each in desk.folders.all()])


@router.post("/datasets")
def add_dataset(body: FolderGiven, desk: At) -> DatasetRow:
    """Look at a folder from now on."""
    return datasets.row(desk.folders, desk.folders.add(folders.named(body.path, desk.site)))


@router.delete("/datasets/{id}")
def forget_dataset(id: Id, desk: At) -> Datasets:
    """Look at a folder no more; nothing in it is deleted."""
    desk.folders.forget(id)
    return dataset_list(desk)


@router.get("/datasets/{id}")
def dataset(
    id: Id,
    desk: At,
    offset: Annotated[int, Query(ge=0, le=10**7)] = 0,
    limit: Annotated[int, Query(ge=0, le=1000)] = 200,
    query: Words = "",
    tag: Words = "",
    issue: Words = "",
    sort: Sort = "name",
    trigger: Annotated[str | None, Query(max_length=200)] = None,
    resolution: Side = datasets.USUAL,
) -> DatasetView:
    """A page of a folder's pictures, with what is known of all."""
    return datasets.page(
        desk.folders, desk.folders.folder(id), offset=offset, limit=limit, query=query, tag=tag, issue=issue, sort=sort,
        trigger=trigger, side=resolution,
    )  # fmt: skip


@router.get("/datasets/{id}/tags")
def dataset_tags(id: Id, desk: At) -> Tags:
    """All tags, and how often the most frequent ones stand together."""
    texts = [each.caption for each in desk.folders.gallery(desk.folders.folder(id)).pictures().values()]
    counts = retag.counted(texts)
    pairs = retag.together(texts, counts).most_common(2000)
    return Tags(
        tags=[TagRow(tag=tag, count=count) for tag, count in counts.most_common()],
        pairs=[PairRow(a=a, b=b, count=count) for (a, b), count in pairs],
    )


@router.get("/datasets/{id}/copies")
def dataset_copies(id: Id, desk: At) -> Copies:
    """Pictures that look the same, as far as they were looked at."""
    gallery = desk.folders.gallery(desk.folders.folder(id))
    gallery.pictures()
    return Copies(groups=gallery.copies())


@router.get("/datasets/{id}/pictures/{pic:path}/as-trained")
def as_trained(
    id: Id,
    pic: Pic,
    desk: At,
    base: Annotated[str, Query(max_length=4096)] = "pocket",
    resolution: Annotated[int | None, Query(ge=64, le=8192)] = None,
) -> AsTrained:
    """A picture and its caption as training would see them. `base`: `root/relative` of a base in the folders of models,
    or its name."""
    gallery, picture = _picture(desk, id, pic)
    path = base if base in MODEL_NAMES else str(desk.site.inside(base, "models", "data"))
    return datasets.as_trained(picture, gallery, datasets.usual(gallery.root, path, resolution))


@router.post("/datasets/{id}/as-trained")
def as_trained_with(id: Id, body: AsTrainedGiven, desk: At) -> AsTrained:
    """The same, with settings that are being written."""
    gallery, picture = _picture(desk, id, body.pic)
    found = draft.read(body.toml, desk.site)
    if found.problems or found.config is None:
        raise Refused(422, *found.problems)
    return datasets.as_trained(picture, gallery, found.config)


@router.get("/datasets/{id}/pictures/{pic:path}", response_class=Response, responses=_PICTURE)
def dataset_picture(id: Id, pic: Pic, desk: At, w: Annotated[int, Query(ge=16, le=4096)] = 256) -> Response:
    """A picture, encoded anew, at most `w` wide."""
    return pictures.response(Place(_picture(desk, id, pic)[1].path), w, desk.site.cache)


@router.put("/datasets/{id}/captions")
def save_captions(id: Id, body: CaptionsGiven, desk: At) -> SavedView:
    """Write captions into the folder. What was there before is kept, and can be brought back."""
    return datasets.save(desk.folders, desk.folders.folder(id), body)


@router.post("/datasets/{id}/captions/preview")
def preview_captions(id: Id, body: EditGiven, desk: At) -> EditPreview:
    """What a change of many captions would do. Nothing is written."""
    found = desk.folders.gallery(desk.folders.folder(id)).pictures()
    texts = {each.id: each.caption for each in found.values()}
    chosen = texts if body.pics is None else {id: texts[id] for id in body.pics if id in texts}
    edit = Edit(**{**body.model_dump(exclude={"pics"}), "add": tuple(body.add), "remove": tuple(body.remove)})
    changed = retag.edited(chosen, edit, retag.counted(texts.values()))
    changes = {id: CaptionChange(before=before, after=after) for id, (before, after) in changed.items()}
    return EditPreview(changes=changes, count=len(changes))


@router.post("/datasets/{id}/undo")
def undo_captions(id: Id, desk: At) -> Undone:
    """Take back what was saved last."""
    folder = desk.folders.folder(id)
    history = desk.folders.history(folder)
    undone = history.undo()
    desk.folders.gallery(folder).pictures(now=True)
    return Undone(undone=undone, version=history.version())


def _picture(desk: Desk, id: str, pic: str) -> tuple[Gallery, Picture]:
    gallery = desk.folders.gallery(desk.folders.folder(id))
    found = gallery.pictures().get(pic) or gallery.pictures(now=True).get(pic)
    if found is None:
        raise absent(pic)
    return gallery, found

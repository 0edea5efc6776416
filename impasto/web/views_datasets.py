"""What the browser reads and sends of pictures and captions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from impasto.web.views import View

Tag = Annotated[str, Field(max_length=500)]
PictureId = Annotated[str, Field(max_length=4096)]


class DatasetRow(View):
    """A folder of pictures."""

    id: str
    name: str
    path: str
    count: int
    captions: int
    """Pictures that have one."""
    coverage: float
    warnings: list[str]
    added: float
    cover: list[str]
    """Ids of some pictures."""


class Datasets(View):
    """All folders that are looked at."""

    datasets: list[DatasetRow]


class FolderGiven(BaseModel):
    """A folder inside the roots: its path, or `root/relative`."""

    path: Annotated[str, Field(min_length=1, max_length=4096)]


class FolderRow(View):
    """A folder to choose."""

    name: str
    path: str
    pictures: int
    """Pictures in it, without those further below; at most 1000 are counted."""


class Folders(View):
    """The folders in a folder."""

    path: str
    """Empty for the list of roots."""
    parent: str | None
    folders: list[FolderRow]


class PictureRow(View):
    """A picture in the grid."""

    id: str
    name: str
    width: int | None
    height: int | None
    size: int
    """Bytes."""
    caption: str
    tags: list[str]
    issues: list[str]


class TagRow(View):
    """A tag, and how many captions have it."""

    tag: str
    count: int


class PairRow(View):
    """Two tags that stand together in so many captions."""

    a: str
    b: str
    count: int


class IssueRow(View):
    """Something that is wrong with some pictures."""

    code: str
    title: str
    count: int
    fix: str


class StepRow(View):
    """Something that was saved."""

    version: int
    at: float
    what: str
    changed: int
    undone: bool


class DatasetView(View):
    """A folder of pictures, and a page of them."""

    id: str
    name: str
    path: str
    count: int
    coverage: float
    total: int
    """Pictures that the filter leaves."""
    pictures: list[PictureRow]
    tags: list[TagRow]
    """The most frequent ones."""
    issues: list[IssueRow]
    trigger: str
    """The tag that most captions begin with: what calls the concept."""
    version: int
    history: list[StepRow]
    looked: int
    """Pictures that were looked at closely: copies and blurred ones among the others are not known yet."""


class Tags(View):
    """The index of tags."""

    tags: list[TagRow]
    pairs: list[PairRow]
    """How often the most frequent ones stand together."""


class Copies(View):
    """Pictures that look the same, group by group."""

    groups: list[list[str]]


class CaptionsGiven(BaseModel):
    """Captions to write into the folder."""

    changes: Annotated[dict[PictureId, Annotated[str, Field(max_length=16_384)]], Field(max_length=100_000)]
    version: int | None = None
    """The version that they were made of; another one is refused."""
    what: Annotated[str, Field(max_length=200)] = ""


class SavedView(View):
    """What was written."""

    saved: int
    version: int


class EditGiven(BaseModel):
    """A change of many captions, to be shown before it is saved."""

    find: Annotated[str, Field(max_length=2000)] = ""
    replace: Annotated[str, Field(max_length=2000)] = ""
    regex: bool = False
    case: bool = True
    add: Annotated[list[Tag], Field(max_length=100)] = []
    at: Literal["start", "end"] = "end"
    remove: Annotated[list[Tag], Field(max_length=100)] = []
    sort: Literal["no", "alphabet", "count"] = "no"
    keep: Annotated[int, Field(ge=0, le=1000)] = 0
    unique: bool = False
    pics: Annotated[list[PictureId], Field(max_length=100_000)] | None = None
    """Which pictures; None: all."""


class CaptionChange(View):
    """A caption that would change."""

    before: str
    after: str


class EditPreview(View):
    """What would change."""

    changes: dict[str, CaptionChange]
    count: int


class Undone(View):
    """What was taken back."""

    undone: int
    version: int


class Crop(View):
    """What of a picture is used, in its own pixels."""

    left: float
    top: float
    width: float
    height: float


class AsTrainedGiven(BaseModel):
    """A picture, and settings to see it with."""

    pic: PictureId
    toml: Annotated[str, Field(max_length=1 << 20)]


class TokenPiece(View):
    """A token of the caption."""

    text: str
    cut: bool
    """Not read: it is beyond the limit."""


class AsTrained(View):
    """A picture and its caption as training would see them."""

    width: int
    height: int
    crop: Crop
    bucket: tuple[int, int]
    scale: float
    """How many times larger it becomes."""
    flip: bool
    """It is mirrored, half of the time."""
    by_dice: bool
    """Another cut, or other colours, at each visit: this one is the middle."""
    mask: str | None
    """The picture beside it that is its mask."""
    caption: str
    """Whole: nothing shuffled, dropped or chosen by dice."""
    changes: bool
    """It differs from visit to visit."""
    tokens: list[TokenPiece]
    limit: int
    base: str
    reader: str
    """Which text encoder the tokens are those of."""

"""What the browser reads and sends of models, disks and work on files."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from impasto.web.problems import Told
from impasto.web.views import View

FileId = Annotated[str, Field(min_length=1, max_length=4096)]
Rank = Annotated[int, Field(ge=1, le=65536)]
ShareGiven = Annotated[float, Field(gt=0.0, le=1.0)]


class ModelRow(View):
    """A model on disk."""

    id: str
    """`root/relative`; of the built-in base its name."""
    path: str
    """As it can stand in `model.path`."""
    name: str
    family: str
    kind: Literal["base", "adapter", "part", "other"]
    what: str
    """What it holds, in words."""
    size: int
    changed: float
    note: str


class Models(View):
    """All models in the folders of models and of runs."""

    models: list[ModelRow]
    more: bool
    """There are more than are listed."""


class StorageRow(View):
    """Something that takes room."""

    id: str
    what: str
    path: str
    size: int
    files: int
    note: str
    removable: bool


class DiskRow(View):
    """A disk."""

    path: str
    total: int
    free: int


class Storage(View):
    """What takes room, the largest first."""

    items: list[StorageRow]
    disks: list[DiskRow]
    total: int
    free: int
    """On the disk of the first folder of runs."""


class CleanGiven(BaseModel):
    """What to clean."""

    ids: Annotated[list[Annotated[str, Field(max_length=8192)]], Field(max_length=1000)]
    days: Annotated[float, Field(ge=0.0, le=10_000.0)] = 0.0
    """Of the cache: only what was not used for so many days."""
    go: bool = False
    """Without it, what would be removed is told and nothing is."""


class CleanRow(View):
    """Something that is removed."""

    path: str
    size: int


class Cleaned(View):
    """What is removed, or would be."""

    items: list[CleanRow]
    """The first thousand."""
    files: int
    size: int
    done: bool


class CheckRow(View):
    """Something about this machine."""

    name: str
    state: Literal["good", "warn", "bad"]
    what: str
    fix: str


class Doctor(View):
    """Whether this machine is ready."""

    checks: list[CheckRow]


class HubToken(View):
    """The token of the Hugging Face hub: never its text."""

    is_set: bool
    source: Literal["", "environment", "file"]
    """`file`: `hf auth login` wrote it down."""
    cache: str
    """Where bases from the hub are kept."""
    is_offline: bool
    """Whether HF_HUB_OFFLINE keeps trainings from fetching."""


class Webhook(View):
    """Who is told when a run has ended: never the whole address, which holds a key."""

    is_set: bool
    host: str


class Tokens(View):
    """Tokens and addresses of other services, as far as a page may know them."""

    hub: HubToken
    webhook: Webhook


class ChoreView(View):
    """Work in a process of its own."""

    id: str
    what: str
    state: Literal["waiting", "running", "done", "failed"]
    done: int
    total: int
    left: float | None
    """Seconds until it is done, once its pace is known."""
    text: str
    """The last that it said."""
    result: Any
    problems: list[Told]
    begun: float


class ChoreList(View):
    """All that was begun, the newest first."""

    jobs: list[ChoreView]


class ChoreMade(View):
    """Work was begun: ask /tools/jobs for it."""

    job: str


class InspectGiven(BaseModel):
    """A file to look into."""

    file: FileId


class VerifyGiven(BaseModel):
    """An adapter file to check."""

    file: FileId
    base: FileId | None = None


class ResizeGiven(BaseModel):
    """An adapter to write with other ranks."""

    file: FileId
    out: FileId
    rank: Rank | None = None
    energy: ShareGiven | None = None
    frobenius: ShareGiven | None = None
    base: FileId | None = None


class MergePart(BaseModel):
    """An adapter, and how strongly it acts."""

    file: FileId
    strength: Annotated[float, Field(ge=-100.0, le=100.0)] = 1.0


class MergeGiven(BaseModel):
    """Adapters to make one of, or to merge into a base."""

    files: Annotated[list[MergePart], Field(min_length=1, max_length=100)]
    out: FileId
    into: FileId | None = None
    rank: Rank | None = None
    energy: ShareGiven | None = None
    frobenius: ShareGiven | None = None
    base: FileId | None = None
    precision: Literal["fp32", "bf16", "fp16"] | None = None


class ExtractGiven(BaseModel):
    """Two bases, of whose difference a LoRA is made."""

    tuned: FileId
    base: FileId
    out: FileId
    rank: Rank | None = None
    energy: ShareGiven | None = None
    frobenius: ShareGiven | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp16"


class ConvertGiven(BaseModel):
    """A LoRA to write with other names."""

    file: FileId
    out: FileId
    to: Literal["kohya", "diffusers"]
    base: FileId | None = None

"""What the browser reads of runs; the pages' types are made from these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal[
    "draft", "planned", "queued", "preparing", "training", "paused", "finishing", "done", "stopped", "failed", "lost"
]
"""Where a run stands. draft: its settings cannot be used as they are; planned: they can, and it is in no line;
stopped: on request, or by its sweep; lost: its process is gone without a word, or gives no sign of life."""

Asking = Literal["pause", "resume", "save", "preview", "stop", "end"]
"""`end` kills a process that gives no sign of life; the others are seen to after the next step."""


class View(BaseModel):
    """Told to the browser, never changed."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Summary(View):
    """A run in a table."""

    id: str
    name: str
    folder: str
    """`root/relative` of its folder."""
    state: State
    reason: str
    """Why it is in that state, in words; may be empty."""
    step: int
    total: int
    """Steps in all; 0 if nobody knows yet."""
    saved: int | None
    """The step it can go on from."""
    epoch: int
    phase: str
    """What it is busy with: scan, encode, load, preview, proof …; empty while it takes steps."""
    phase_done: int
    phase_total: int
    loss: float | None
    """Mean of the last losses."""
    validation: float | None
    """The last loss on held-out pictures."""
    seconds_per_step: float | None
    eta: float | None
    """Seconds until it is done."""
    silent: bool
    """Whether its process is there and gives no sign of life: it is stopped, or hangs."""
    started: float | None
    ended: float | None
    last_sign: float | None
    """When it last told something."""
    family: str
    base: str
    """What its base model is called."""
    kind: str
    """The kind of adapter."""
    rank: int | None
    preview: str | None
    """Name of the last picture it drew."""
    recommended: str | None
    """The adapter file to try first."""
    file: str | None
    """The final adapter file."""
    warnings: int
    memory: int | None
    """Bytes of device memory in use at most."""
    spark: list[float]
    """The loss so far in a few points; only while it trains."""
    tags: list[str]
    star: bool
    note: str
    parent: str | None
    """Id of the run it was forked from, if it is here; else its name."""
    parent_step: int | None
    sweep: str | None
    """`root/relative` of the sweep it belongs to."""
    job: int | None
    """Its job in the queue, if it waits or trains there."""


class Runs(View):
    """All runs."""

    runs: list[Summary]
    reading: int
    """Folders that were not read yet: ask again soon."""


class Checkpoint(View):
    """A moment of the run of which something is kept."""

    step: int
    file: str | None
    """The adapter file of this step, within the run's folder."""
    bytes: int | None
    resumable: bool
    """Whether the run can go on, or be forked, from here."""
    loss: float | None
    """The loss on held-out pictures (or training pictures, where none are) measured at this step."""
    proven: bool | None
    """Whether the file was loaded again and compared; None: it was not tried."""
    difference: float | None
    matched: int | None
    expected: int | None
    picked: bool
    recommended: bool
    reasons: list[str]


class Drawn(View):
    """A preview."""

    step: int
    prompt: int
    picture: str
    """Its name, for /runs/{id}/pictures/{name}."""


class Prompt(View):
    """What a preview shows."""

    text: str
    negative: str
    seed: int | None
    width: int | None
    height: int | None


class Measured(View):
    """A measurement with fixed noise."""

    step: int
    losses: dict[str, float | None]
    """Held-out pictures, by noise level."""
    training: dict[str, float | None]


class Learnt(View):
    """What a picture cost while it was learnt: 1 is usual."""

    name: str
    looks: int
    early: float | None
    late: float | None
    trend: float | None
    verdict: Literal["", "never_learned", "dominates", "stopped_teaching"]


class Setting(View):
    """A setting of the run."""

    key: str
    value: Any
    usual: Any
    """The default."""
    source: Literal["default", "set"]


class Kin(View):
    """A run that this one was forked from, or that was forked from it."""

    id: str | None
    """None if its folder is not here."""
    name: str
    parent: str | None
    step: int | None
    """The step of the parent at which it begins."""
    state: State | None


class Detail(Summary):
    """All about a run but its curves."""

    config_toml: str
    settings: list[Setting]
    checkpoints: list[Checkpoint]
    previews: list[Drawn]
    prompts: list[Prompt]
    pictures: list[str]
    """Other pictures, as loss.png."""
    measured: list[Measured]
    ledger: list[Learnt]
    tree: list[Kin]
    machine: dict[str, str]
    """What it computed on, by its record."""
    similarity: dict[str, float]
    spent: dict[str, float]
    """Seconds of each part of its time, of all its processes, by what was last told."""
    expected: float | None
    """Seconds a step took in earlier runs of this kind on this machine."""
    problems: list[str]
    """What is wrong with its settings, if they cannot be read."""
    events: int
    """Lines in its events so far: where a stream that is to tell only what is new begins."""
    can: list[Asking]
    """What may be asked of it now."""


class Line(View):
    """A curve: `x` are steps, `t` seconds since 1970, `y` values."""

    x: list[int]
    t: list[float]
    y: list[float | None]


class Marker(View):
    """Something that happened, for a curve's axis."""

    step: int
    time: float
    kind: str
    text: str


class Series(View):
    """The curves of a run: loss, norm, seconds, memory, `rate.PART`, `validation`, `validation.NOISE`, `training` …"""

    series: dict[str, Line]
    markers: list[Marker]
    epoch_steps: int | None
    """Steps of an epoch."""
    batch: int | None
    """Pictures a step."""
    events: int
    """Lines of its events that are in it."""


class Message(View):
    """A line of the log."""

    line: int
    """Its number among the run's events."""
    time: float
    step: int | None
    level: Literal["error", "warning", "milestone", "note"]
    code: str
    text: str


class Log(View):
    """The log, newest last."""

    messages: list[Message]
    output: str
    """The end of what its process printed."""


class Ask(BaseModel):
    """Something asked of a run."""

    kind: Asking


class Done(View):
    """It was done, or will be at the next step."""

    text: str


class Fork(BaseModel):
    """A run that goes on from a step of another one."""

    at: Annotated[int, Field(ge=0, le=10**9)] | None = None
    """Step of a checkpoint; None: the newest."""
    settings: dict[Annotated[str, Field(max_length=200)], Any] = {}
    """What is different from there on."""
    enqueue: bool = True


class Made(View):
    """A run that was made."""

    id: str
    job: int | None


class Marks(BaseModel):
    """What a person noted about a run; what is left out stays."""

    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=60)]], Field(max_length=50)] | None = None
    star: bool | None = None
    note: Annotated[str, Field(max_length=20_000)] | None = None


class Marked(View):
    """What is noted about a run."""

    tags: list[str]
    star: bool
    note: str


class NewFolder(BaseModel):
    """What a new folder of pictures is to be called."""

    name: Annotated[str, Field(min_length=1, max_length=200)]


class Begun(View):
    """A folder that takes uploads."""

    id: str
    path: str


class Received(View):
    """A file that was taken."""

    name: str
    bytes: int


class Place(View):
    """A root."""

    id: str
    kind: Literal["runs", "data", "models"]
    path: str
    free: int | None
    """Bytes that are free on its disk."""


class Hello(View):
    """Who answers."""

    version: str
    machine: str
    lanes: list[str]
    roots: list[Place]
    pages: bool
    """Whether the built pages are there."""

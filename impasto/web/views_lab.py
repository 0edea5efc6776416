"""What the browser reads and sends of sweeps and comparisons."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from impasto.web.problems import Told
from impasto.web.views import View

Label = Annotated[str, Field(min_length=1, max_length=500)]


class SweepRow(View):
    """A sweep in a table."""

    id: str
    """`root/relative` of its folder, as runs name it."""
    name: str
    axes: list[str]
    """The settings that vary, by dotted name."""
    runs: int
    done: int
    """Runs that have ended."""
    best: float | None
    """The lowest loss with fixed noise so far."""


class SweepRows(View):
    """All sweeps."""

    sweeps: list[SweepRow]


class SweepMember(View):
    """A run of a sweep."""

    run: str | None
    """Its id; None as long as it has no folder."""
    name: str
    variant: int
    point: dict[str, Any]
    """Its values of the settings that vary."""
    seed: int
    stage: str
    step: int
    loss: float | None
    """The last one with fixed noise."""
    why: str
    """Why it was stopped, if it was."""
    file: str
    """Its adapter, within the sweep's folder."""


class SweepEffect(View):
    """What another value of a setting did to the loss, all else equal."""

    key: str
    base: Any
    value: Any
    mean: float
    low: float | None
    high: float | None
    pairs: int
    certain: bool


class SweepPick(View):
    """The variant to take."""

    names: list[str]
    point: dict[str, Any]
    loss: float
    reason: str


class SweepView(View):
    """What a sweep found so far."""

    id: str
    name: str
    axes: list[str]
    rows: list[SweepMember]
    """The best first."""
    effects: list[SweepEffect]
    pick: SweepPick | None
    trained: int
    of: int


class OfRun(BaseModel):
    """A run's adapter at a strength."""

    run: Annotated[str, Field(max_length=8192)]
    step: Annotated[int, Field(ge=0, le=10**9)] | None = None
    """The file of that step; None: the final one, else the newest."""
    strength: Annotated[float, Field(ge=-10, le=10)] = 1.0


class OfFile(BaseModel):
    """An adapter file at a strength."""

    model: Annotated[str, Field(max_length=8192)]
    """`root/relative` of a .safetensors file."""
    strength: Annotated[float, Field(ge=-10, le=10)] = 1.0


class DrawGiven(BaseModel):
    """Pictures to draw: each row on each prompt with each seed."""

    title: Annotated[str, Field(max_length=200)] = ""
    rows: Annotated[list[OfRun | OfFile], Field(min_length=1, max_length=64)]
    prompts: Annotated[list[Annotated[str, Field(min_length=1, max_length=2000)]], Field(max_length=32)] = []
    """None: the previews of the first run."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(max_length=32)] = []
    base: bool = True
    """A first row with the base alone."""
    on: Annotated[str, Field(max_length=8192)] | None = None
    """`root/relative` of the base to draw on; None: the one the runs were trained on."""


class Begotten(View):
    """A comparison that was begun."""

    id: str


class Comparison(View):
    """Pictures of several adapters side by side."""

    id: str
    title: str
    state: Literal["waiting", "drawing", "done", "failed"]
    done: int
    total: int
    left: float | None
    """Seconds until all are drawn, once the first ones tell."""
    made: float


class Comparisons(View):
    """All of them, the newest first."""

    compares: list[Comparison]


class DrawnRow(View):
    """What one row of pictures was made by."""

    label: str
    strength: float
    run: str | None


class DrawnColumn(View):
    """What one column of pictures shows."""

    label: str


class BallotGiven(BaseModel):
    """One answer to "which is better?"."""

    left: Label
    right: Label
    better: Literal["left", "right", "neither"]


class BallotsGiven(BaseModel):
    """Votes, in the order they were given."""

    votes: Annotated[list[BallotGiven], Field(min_length=1, max_length=1000)]


class StandingView(View):
    """How a row fares in blind votes."""

    row: str
    strength: float
    low: float
    high: float
    chance: float
    """Of being preferred to another row picked at random."""
    won: float
    shown: int


class Standings(View):
    """All rows that were voted on, the best first."""

    standings: list[StandingView]


class ComparisonView(Comparison):
    """A comparison with its pictures."""

    rows: list[DrawnRow]
    columns: list[DrawnColumn]
    cells: list[list[str | None]]
    """Names of pictures, by row and column."""
    votes: int
    standings: list[StandingView]
    problems: list[Told]

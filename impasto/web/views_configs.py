"""What the browser reads and sends of settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from impasto.web.problems import Told
from impasto.web.views import View

Toml = Annotated[str, Field(max_length=1 << 20)]
Values = Annotated[dict[Annotated[str, Field(max_length=4096)], Any], Field(max_length=10_000)]


class Group(View):
    """A section of the form."""

    name: str
    title: str
    help: str
    prefixes: list[str]
    """Beginnings of the dotted names that belong to it."""


class Layout(View):
    """How the form is laid out. What a field is, the schema says."""

    standard: list[str]
    """What people change most, by dotted name, in order."""
    groups: list[Group]


class SchemaView(View):
    """The one schema of the settings."""

    json_schema: dict[str, Any] = Field(serialization_alias="schema")
    layout: Layout


class PresetRow(View):
    """Settings to start from."""

    name: str
    title: str
    why: str
    goal: str
    family: str
    memory: int
    """Gigabytes of the card that it is made for."""


class Presets(View):
    """All of them."""

    presets: list[PresetRow]


class PresetView(PresetRow):
    """One of them, with its text."""

    toml: str
    reasons: dict[str, str]
    """Why each value is what it is, by dotted name."""


class TomlGiven(BaseModel):
    """A text of settings."""

    toml: Toml


class ValuesGiven(BaseModel):
    """Values by dotted name, to be put into a text."""

    values: Values
    toml: Toml = ""
    """Its comments and order are kept where they can be."""


class DraftView(View):
    """Settings that are being written."""

    toml: str
    values: dict[str, Any]
    """What the text says, by dotted name."""
    changed: list[str]
    """Names whose value is not the default."""
    effective: dict[str, Any]
    """What every setting comes to; empty where the whole does not check."""
    runs: int
    """How many runs it means: more than one of a sweep."""
    problems: list[Told]


class PlanView(View):
    """What a run would do and take."""

    plan: dict[str, Any] | None
    advice: list[Told]
    problems: list[Told]
    runs: int
    """How many runs it means; the plan is that of the first."""


class PlanUnderWay(View):
    """A plan in the making: ask again with the same text."""

    job: str
    done: int
    total: int
    text: str


class ImportGiven(BaseModel):
    """A file of another trainer."""

    name: Annotated[str, Field(max_length=200)] = "settings"
    text: Toml


class Carried(View):
    """What became of a value of another trainer."""

    key: str
    value: Any
    verdict: str
    """same, better, not carried over, unknown."""
    settings: list[str]
    note: str


class Imported(View):
    """Settings made of those of another trainer."""

    toml: str
    kind: str
    """What was recognised."""
    report: list[Carried]
    problems: list[Told]


class StartGiven(BaseModel):
    """Settings to train with."""

    toml: Toml
    go: Literal["now", "queue", "draft", "probe"] = "queue"
    """now: next in the line; queue: at its end; draft: make the folders only; probe: measure two steps."""
    lane: Annotated[str, Field(max_length=20)] | None = None


class Started(View):
    """What was made."""

    run_ids: list[str]
    jobs: list[int]
    sweep: str | None
    """`root/relative` of the sweep's folder."""
    chore: str | None
    """Of a probe: what to ask /tools/jobs for."""


class RecipeGiven(BaseModel):
    """Settings to keep under a name."""

    name: Annotated[str, Field(pattern=r"^[\w .()-]{1,60}$")]
    toml: Toml


class RecipeView(View):
    """Settings that were kept."""

    name: str
    toml: str
    saved: float


class Recipes(View):
    """All that were kept."""

    recipes: list[RecipeView]

"""Settings: read, written, planned, imported, started."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from impasto import presets
from impasto.compat import reading, translate, written
from impasto.config import json_schema, leaves
from impasto.sweeps.config import WholeFile
from impasto.web import draft, recipes, starting
from impasto.web.desk import At
from impasto.web.draft import Draft
from impasto.web.layout import layout
from impasto.web.live import Now
from impasto.web.plain import plain
from impasto.web.problems import absent, told
from impasto.web.views_configs import (
    Carried,
    DraftView,
    Imported,
    ImportGiven,
    PlanUnderWay,
    PlanView,
    PresetRow,
    Presets,
    PresetView,
    RecipeGiven,
    Recipes,
    RecipeView,
    SchemaView,
    Started,
    StartGiven,
    TomlGiven,
    ValuesGiven,
)

router = APIRouter(tags=["configs"])

Name = Annotated[str, Path(min_length=1, max_length=200)]
_UNDER_WAY: dict[int | str, dict[str, Any]] = {202: {"model": PlanUnderWay, "description": "It is being made"}}


@router.get("/schema")
def schema() -> SchemaView:
    """The one schema of all settings, and how the form is laid out."""
    return SchemaView(json_schema=json_schema(WholeFile), layout=layout())


@router.get("/presets")
def preset_list() -> Presets:
    """Settings to start from."""
    return Presets(presets=[_row(each) for each in presets.every()])


@router.get("/presets/{name}")
def preset(name: Name) -> PresetView:
    """One of them, with the reason for each of its values."""
    found = next((each for each in presets.every() if each.name == name), None)
    if found is None:
        raise absent(name)
    return PresetView(**_row(found).model_dump(), toml=found.toml, reasons=found.reasons)


@router.post("/configs/read")
def read_config(body: TomlGiven, desk: At) -> DraftView:
    """What a text of settings says, comes to, and what is wrong with it."""
    return _shown(draft.read(body.toml, desk.site))


@router.post("/configs/write")
def write_config(body: ValuesGiven, desk: At) -> DraftView:
    """Put values by dotted name into a text."""
    return _shown(draft.write(body.values, body.toml, desk.site))


@router.post("/configs/plan", responses=_UNDER_WAY, response_model=PlanView)
def plan_config(body: TomlGiven, desk: At, response: Response) -> Any:
    """What a run would do and take. 202 while pictures are looked through: ask again with the same text."""
    found = draft.read(body.toml, desk.site)
    runs = len(found.runs) or 1
    if found.problems or found.config is None:
        return PlanView(plan=None, advice=[], problems=told(found.problems), runs=runs)
    made = desk.planning.ask(body.toml, found.config)
    if not made.ended:
        words = f"looking at pictures {made.done}/{made.total}" if made.total else "reading the base"
        under_way = PlanUnderWay(job=made.key, done=made.done, total=made.total, text=words)
        return Response(under_way.model_dump_json(), 202, media_type="application/json")
    return PlanView(plan=made.made, advice=told(made.advice), problems=told(made.problems), runs=runs)


@router.post("/configs/import")
def import_config(body: ImportGiven, desk: At) -> Imported:
    """Make settings of a file of another trainer. No other file that it names is looked at."""
    made = translate.translate(reading.read_alone(body.text, body.name))
    text = written.document(made)
    report = [
        Carried(
            key=plain(each["name"]), value=plain(each["value"]), verdict=each["outcome"],
            settings=plain(each["settings"]), note=plain(each["reason"]),
        )
        for each in written.described(made)["results"]
    ]  # fmt: skip
    return Imported(
        toml=text, kind=made.recipe.kind, report=report, problems=told(draft.read(text, desk.site).problems)
    )


@router.post("/configs/start")
def start_config(body: StartGiven, now: Now, desk: At) -> Started:
    """Train with these settings; those of a sweep mean several runs."""
    return starting.start(now, desk, draft.read(body.toml, desk.site), body)


@router.get("/recipes")
def recipe_list(desk: At) -> Recipes:
    """Settings that were kept under a name."""
    return Recipes(recipes=recipes.all_in(desk.site.state / "recipes"))


@router.post("/recipes")
def keep_recipe(body: RecipeGiven, desk: At) -> RecipeView:
    """Keep settings under a name."""
    return recipes.keep(desk.site.state / "recipes", body.name, body.toml)


@router.delete("/recipes/{name}")
def forget_recipe(name: Name, desk: At) -> Recipes:
    """Delete settings that were kept."""
    recipes.forget(desk.site.state / "recipes", name)
    return recipe_list(desk)


def _row(found: presets.Preset) -> PresetRow:
    return PresetRow(
        name=found.name, title=found.title, why=found.why, goal=found.goal, family=found.family, memory=found.memory
    )


def _shown(found: Draft) -> DraftView:
    config = found.config
    return DraftView(
        toml=plain(found.text), values=plain(found.values), changed=list(found.changed),
        effective={} if config is None else plain(leaves(config)), runs=len(found.runs) or 1,
        problems=told(found.problems),
    )  # fmt: skip

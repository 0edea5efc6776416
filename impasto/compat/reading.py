"""Files and command lines of other trainers, recognised by what they hold, never by their names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from impasto.compat import aitoolkit, command, gui, onetrainer, yaml_text
from impasto.compat.recipe import Base, Given, Recipe, Result
from impasto.compat.tables import INERT, LISTS, flags, gui_keys
from impasto.errors import ConfigError, Problem
from impasto.settings import toml

FIX = "give a settings file of kohya_ss, sd-scripts, OneTrainer or ai-toolkit, a dataset file, or -- and a command line"
_SCRIPT = re.compile(r"\b\w*train_network(?:\.py)?\b")
_YAML = re.compile(r"^(job|config)\s*:(\s|$)", re.MULTILINE)
_NOT_ADAPTERS = re.compile(r"\b(train_db|fine_tune|sdxl_train|flux_train|sd3_train|train_textual_inversion\w*)\.py\b")


NOWHERE = Path(os.devnull) / "nowhere"
"""In place of a folder: no other file is read."""


def read(path: Path) -> Recipe:
    """A file of any known kind."""
    return _of_text(toml.read_text(path), str(path), path.absolute().parent)


def read_alone(text: str, name: str) -> Recipe:
    """The text of such a file, by itself: no file that it names is looked at."""
    recipe = _of_text(text, name, NOWHERE)
    recipe.alone = True
    return recipe


def _of_text(text: str, name: str, folder: Path) -> Recipe:
    start = text.lstrip()[:1]
    if start == "{" or (start == "[" and not re.match(r"\s*\[+[\w.\- ]+\]", text)):
        return _of_json(parse_json(text, name), name, folder)
    if _SCRIPT.search(text) and not _is_toml(text):
        return of_words(command.words(text, name), name, folder)
    if _YAML.search(text) and not _is_toml(text):
        return _of_yaml(yaml_text.parse(text, name), name)
    if found := _NOT_ADAPTERS.search(text):
        raise _refuse("E-IMP-003", name, f"{found[0]} does not train an adapter", FIX)
    values = toml.parse(text, name).values
    return _of_dataset(values, name) if _is_dataset(values) else of_arguments(values, name, folder)


def of_words(words: Sequence[str], name: str, folder: Path) -> Recipe:
    """A command line, as the shell hands it over."""
    recipe = command.parse(words, name)
    return _indirect(recipe, folder)


def of_arguments(values: dict[str, Any], name: str, folder: Path) -> Recipe:
    """A file of sd-scripts' arguments: sections have no meaning there, only what is in them."""
    recipe = Recipe(name, "a file of arguments of sd-scripts")
    for key, value in flat(values).items():
        _take(recipe, key, value)
    if not set(recipe.args) & flags().keys():
        raise _refuse("E-IMP-001", name, "nothing in this file is an argument of sd-scripts", FIX)
    recipe.base = guessed(recipe)
    return _indirect(recipe, folder)


def parse_json(text: str, name: str) -> Any:
    """JSON with bounds; what is wrong is told with its line."""
    if toml.too_deep(text):
        raise _refuse("E-IMP-002", name, f"nested more than {toml.DEEPEST} deep", FIX)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{name}:{error.lineno}:{error.colno}"
        raise _refuse("E-IMP-002", where, f"this is not JSON: {error.msg}", "see the line above it too") from None
    except (ValueError, RecursionError):
        raise _refuse("E-IMP-002", name, "this is not JSON that can be read", FIX) from None


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """Sections taken apart, one level deep; the last word counts."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= value if isinstance(value, dict) else {key: value}
    return found


def guessed(recipe: Recipe) -> Base:
    """The family, where no script names it."""
    args = recipe.args
    module = str(args["network_module"].value) if "network_module" in args else ""
    if module.endswith("_sd3") or args.keys() & {"clip_g", "training_shift", "apply_lg_attn_mask"}:
        return "sd3"
    if module.endswith("_flux") or args.keys() & {"ae", "guidance_scale", "model_prediction_type"}:
        return "flux"
    if module.endswith(("_lumina", "_hunyuan_image", "_anima")):
        return "other"
    model = str(args["pretrained_model_name_or_path"].value) if "pretrained_model_name_or_path" in args else ""
    large = re.match(r"^\D*(\d+)", str(args["resolution"].value)) if "resolution" in args else None
    if re.search(r"xl|pony|illustrious", model, re.IGNORECASE) or (large and int(large[1]) >= 1024):
        return "sdxl"
    return "sd"


def _of_json(values: Any, name: str, folder: Path) -> Recipe:
    if not isinstance(values, dict):
        raise _refuse("E-IMP-001", name, "this JSON is a list, not a table of settings", FIX)
    if aitoolkit.is_one(values):
        return aitoolkit.read(values, name)
    if onetrainer.is_one(values):
        return _of_onetrainer(dict(values), name, folder)
    if _is_dataset(values):
        return _of_dataset(values, name)
    if "LoRA_type" in values or len(gui_keys().keys() & values.keys()) >= 3:
        return _indirect(gui.read(values, name), folder)
    raise _refuse("E-IMP-001", name, "nothing in this file is a setting of a trainer that is known here", FIX)


def _of_yaml(values: Any, name: str) -> Recipe:
    if not isinstance(values, dict) or not aitoolkit.is_one(values):
        raise _refuse("E-IMP-001", name, "nothing in this file is a setting of a trainer that is known here", FIX)
    return aitoolkit.read(values, name)


def _of_onetrainer(values: dict[str, Any], name: str, folder: Path) -> Recipe:
    """With the files of concepts and samples that it names, where it does not hold them itself."""
    method = values.get("training_method", "LORA")
    if method != "LORA":
        raise _refuse("E-IMP-003", name, f"training_method {method} does not train an adapter", FIX)
    told: list[Result] = []
    for key, named in (("concepts", "concept_file_name"), ("samples", "sample_definition_file_name")):
        if not values.get(named):
            continue
        given = Given(named, values.pop(named))
        path = _beside(str(given.value), folder)
        if values.get(key):
            told.append(Result(named, given.value, "same", reason=f"this file holds the {key} itself"))
        elif not path.is_file():
            told.append(_not_here(given))
        elif isinstance(listed := parse_json(toml.read_text(path), str(path)), list):
            values[key] = listed
            told.append(Result(named, given.value, "same", reason="read"))
        else:
            raise _refuse("E-IMP-001", str(path), f"this is no list of {key}", FIX)
    recipe = onetrainer.read(values, name)
    recipe.settled += told
    return recipe


def _is_dataset(values: dict[str, Any]) -> bool:
    return isinstance(values.get("datasets"), list)


def _of_dataset(values: dict[str, Any], name: str) -> Recipe:
    return Recipe(name, "a dataset file of sd-scripts", datasets=values, dataset_name=name)


def _is_toml(text: str) -> bool:
    try:
        toml.parse(text, "")
    except ConfigError:
        return False
    return True


def _take(recipe: Recipe, key: str, value: Any) -> None:
    """One argument of a file; lists of `key=value` are taken apart."""
    if key in LISTS:
        for each in value if isinstance(value, list) else str(value).split():
            part, sign, inner = str(each).partition("=")
            shown = f"{key} {part}"
            recipe.args[f"{key}.{part}"] = Given(shown, inner if sign else True)
        if not value:
            recipe.settled.append(Result(key, value, "same", reason="empty"))
    elif key in INERT:
        recipe.settled.append(Result(key, value, "same", reason=INERT[key]))
    else:
        recipe.args[key] = Given(key, value)


def _indirect(recipe: Recipe, folder: Path) -> Recipe:
    """Read the files that are named: arguments, the dataset, prompts. Those that are not here are told of."""
    if given := recipe.args.pop("config_file", None):
        path = _beside(str(given.value), folder)
        path = path if path.suffix == ".toml" else path.with_name(path.name + ".toml")
        if path.is_file():
            under = of_arguments(toml.read(path).values, str(path), folder)
            mine, recipe.args = recipe.args, under.args
            recipe.args |= mine
            recipe.datasets, recipe.dataset_name = recipe.datasets or under.datasets, recipe.dataset_name or str(path)
            recipe.settled += [*under.settled, Result(given.name, given.value, "same", reason="read")]
        else:
            recipe.settled.append(_not_here(given))
    if given := recipe.args.pop("dataset_config", None):
        path = _beside(str(given.value), folder)
        if path.is_file():
            text = toml.read_text(path)
            json_like = text.lstrip()[:1] == "{"
            values = parse_json(text, str(path)) if json_like else toml.parse(text, str(path)).values
            if not isinstance(values, dict) or not _is_dataset(values):
                raise _refuse("E-IMP-001", str(path), "this is no dataset file: it has no datasets", FIX)
            recipe.datasets, recipe.dataset_name = values, str(path)
            recipe.settled.append(Result(given.name, given.value, "same", reason="read"))
        else:
            recipe.settled.append(_not_here(given))
    if given := recipe.args.get("sample_prompts"):
        _prompts(recipe, given, folder)
    if (given := recipe.args.pop("log_tracker_config", None)) and given.value:
        path = _beside(str(given.value), folder)
        if path.is_file():
            values = toml.parse(toml.read_text(path), str(path)).values
            recipe.args["log_tracker_config"] = replace(given, value=values, told=given.value)
        else:
            recipe.settled.append(_not_here(given))
    return recipe


def _prompts(recipe: Recipe, given: Given, folder: Path) -> None:
    from impasto.compat import prompts

    text = str(given.value)
    if recipe.kind == gui.KIND:  # there it is the text itself
        recipe.prompts = prompts.of_text(text)
        return
    path = _beside(text, folder)
    if not path.is_file():
        recipe.settled.append(_not_here(given))
        del recipe.args["sample_prompts"]
        return
    content = toml.read_text(path)
    if path.suffix == ".json":
        recipe.prompts = prompts.of_list(parse_json(content, str(path)))
    elif path.suffix == ".toml":
        recipe.prompts = prompts.of_table(toml.parse(content, str(path)).values)
    else:
        recipe.prompts = prompts.of_text(content)


def _beside(name: str, folder: Path) -> Path:
    """From the folder of the file, or the current one."""
    if folder == NOWHERE:
        return NOWHERE
    path = Path(name).expanduser()
    return folder / path if (folder / path).is_file() else path


def _not_here(given: Given) -> Result:
    return Result(given.name, given.value, "lost", reason="there is no such file here, so what it says is missing")


def _refuse(code: str, where: str, what: str, fix: str) -> ConfigError:
    return ConfigError(Problem(code, what, where, fix))

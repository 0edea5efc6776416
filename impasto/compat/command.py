"""Command lines of sd-scripts: taken apart as the shell would that they were written for, and never carried out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from impasto.compat.recipe import Base, Given, Recipe, Result
from impasto.compat.tables import INERT, LISTS, flags
from impasto.errors import ConfigError, Problem

KIND = "a command line of sd-scripts"
SCRIPTS: dict[str, Base] = {
    "train_network": "sd",
    "sdxl_train_network": "sdxl",
    "flux_train_network": "flux",
    "sd3_train_network": "sd3",
}
_SCRIPT = re.compile(r"(?:^|[/\\])(\w*train_network)(?:\.py)?$")
_ANYWHERE = re.compile(r"\w*train_network\b")
_WINDOWS_PATH = re.compile(r"""(?:^|[\s="'])[A-Za-z]:\\""")
_COMMENT = re.compile(r"^\s*(?:#|::|rem\b)", re.IGNORECASE)
LAUNCHER = {
    "num_processes", "num_machines", "num_cpu_threads_per_process", "mixed_precision", "gpu_ids", "multi_gpu",
    "dynamo_backend", "dynamo_mode", "dynamo_use_fullgraph", "dynamo_use_dynamic", "main_process_port", "machine_rank",
    "config_file", "quiet", "same_network", "rdzv_backend", "module",
}  # fmt: skip


def words(text: str, name: str) -> list[str]:
    """The words of the command in a script for a POSIX shell, for cmd or for PowerShell."""
    lines = [line for line in text.splitlines() if not _COMMENT.match(line)]
    shell = _shell(lines)
    sign = {"posix": "\\", "cmd": "^", "powershell": "`"}[shell]
    joined, whole = "", []
    for line in lines:
        if line.rstrip().endswith(sign):
            joined += line.rstrip()[:-1] + " "
        else:
            whole.append(joined + line)
            joined = ""
    found = [line for line in [*whole, joined] if _ANYWHERE.search(line)]
    if not found:
        raise _refuse(name, "no command in it runs a training script for adapters")
    try:
        return split(found[-1], shell)
    except ValueError as error:
        raise _refuse(name, f"the command cannot be taken apart: {error}") from None


def split(line: str, shell: str) -> list[str]:
    """A line as that shell splits it. Nothing is expanded."""
    if shell == "posix":
        return shlex.split(line, comments=True)
    quotes = "\"'" if shell == "powershell" else '"'
    escape = "`" if shell == "powershell" else "^"
    found, word, quote, begun = [], "", "", False
    signs = iter(enumerate(line))
    for at, sign in signs:
        if sign == escape and not (quote and (shell == "cmd" or quote == "'")):
            word += next(signs, (0, ""))[1]
        elif shell == "cmd" and sign == "\\" and line[at + 1 : at + 2] == '"':
            word += next(signs)[1]
        elif quote and sign == quote:
            quote = ""
        elif not quote and sign in quotes:
            quote, begun = sign, True
        elif sign.isspace() and not quote:
            if word or begun:
                found.append(word)
            word, begun = "", False
        else:
            word += sign
    if quote:
        raise ValueError(f"a {quote} is never closed")
    return [*found, word] if word or begun else found


def parse(given: Sequence[str], name: str) -> Recipe:
    """The arguments of a command. What stands before the script belongs to the launcher."""
    line = list(given)
    if len(line) == 1 and _ANYWHERE.search(line[0]):
        line = words(line[0], name)
    at = next((number for number, word in enumerate(line) if _SCRIPT.search(word)), None)
    if at is None:
        raise _refuse(name, "it names no training script for adapters, such as train_network.py")
    script = _SCRIPT.search(line[at])
    assert script
    for number, word in enumerate(line):
        if number > at and word in ("&&", ";", "|", "&"):
            line = line[:number]
            break
    recipe = Recipe(name, KIND, base=SCRIPTS.get(script[1], "other"))
    for option, value in _options(line[:at]):
        if option in LAUNCHER:
            recipe.args[f"launch.{option}"] = Given(f"accelerate --{option}", value)
        elif option:
            recipe.settled.append(Result(f"accelerate --{option}", value, "unknown", reason="unknown to the launcher"))
    lay(recipe, line[at + 1 :])
    return recipe


def lay(recipe: Recipe, given: Sequence[str], prefix: str = "--") -> None:
    """Arguments of the script, over those that a recipe has already."""
    known = flags()
    for option, value in _options(given):
        if not option:
            recipe.settled.append(Result(str(value), True, "unknown", reason="a word that belongs to no option"))
            continue
        name = option if option in known else _completed(option)
        if name in LISTS:
            for part in list(recipe.args):
                if part.startswith(f"{name}."):
                    del recipe.args[part]
            for each in value if isinstance(value, list) else [] if value is True else [value]:
                key, sign, inner = each.partition("=")
                recipe.args[f"{name}.{key}"] = Given(f"{prefix}{name} {key}", inner if sign else True)
        elif name in INERT:
            recipe.settled.append(Result(f"{prefix}{name}", value, "same", reason=INERT[name]))
        else:
            recipe.args[name] = Given(f"{prefix}{name}", value)


def _completed(option: str) -> str:
    """An option may be cut short there, as long as only one begins so."""
    found = [each for each in flags() if each.startswith(option)]
    return found[0] if len(found) == 1 else option


def _options(given: Sequence[str]) -> list[tuple[str, Any]]:
    """Options with their values: True where none follows, a list where there are several. No name: a lone word."""
    found: list[tuple[str, list[str]]] = []
    for word in given:
        if re.match(r"--[A-Za-z_]", word):
            option, sign, value = word[2:].partition("=")
            found.append((option.replace("-", "_"), [value] if sign else []))
        elif found:
            found[-1][1].append(word)
        elif not re.search(r"accelerate|launch|python|^[A-Z_]+=|^-m$|\.exe$|^call$|^&$", word):
            found.append(("", [word]))
    named: list[tuple[str, Any]] = []
    for option, values in found:
        if option in LISTS or len(values) > 1:
            named.append((option, values if option else values[0]))
        else:
            named.append((option, values[0] if values else True))
    return named


def _shell(lines: Sequence[str]) -> str:
    for sign, shell in (("^", "cmd"), ("`", "powershell"), ("\\", "posix")):
        if any(line.rstrip().endswith(f" {sign}") for line in lines):
            return shell
    return "cmd" if any(_WINDOWS_PATH.search(line) for line in lines) else "posix"


def _refuse(name: str, what: str) -> ConfigError:
    fix = "give the whole line, as in accelerate launch train_network.py --network_dim 8"
    return ConfigError(Problem("E-IMP-001", what, name, fix))

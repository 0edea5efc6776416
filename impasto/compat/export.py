"""The other way: settings as arguments of sd-scripts, and a list of what has no place there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from impasto.compat.recipe import Base
from impasto.compat.tables import LISTS
from impasto.config import RunConfig
from impasto.settings.toml import bare_or_quoted, literal

Form = Literal["gui", "toml", "command"]
SCRIPTS: dict[Base, str] = {
    "sd": "train_network.py",
    "sdxl": "sdxl_train_network.py",
    "sd3": "sd3_train_network.py",
    "flux": "flux_train_network.py",
}


@dataclass
class Exported:
    """Arguments under way."""

    base: Base
    args: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    dataset: str = ""
    """A dataset file that belongs to them, if folders have rules of their own."""

    prompts: str = ""
    """A file of prompts that belongs to them."""

    lost: list[str] = field(default_factory=list)

    def put(self, name: str, value: Any, unless: Any = None) -> None:
        """An argument, unless it says what is so anyway."""
        if value != unless:
            self.args[name] = value

    def lose(self, setting: str, why: str = "") -> None:
        """A setting without a place there."""
        self.lost.append(f"{setting}: {why}" if why else setting)

    def write(self, form: Form, stem: str = "kohya") -> str:
        """The whole as text. Files that belong to it are called after `stem`."""
        args = {**self.args, **self._lists()}
        if self.dataset:
            args["dataset_config"] = f"{stem}-dataset.toml"
        if self.prompts and form != "gui":
            args["sample_prompts"] = f"{stem}-prompts.txt"
        if form == "toml":
            return "".join(f"{bare_or_quoted(name)} = {literal(value)}\n" for name, value in sorted(args.items()))
        if form == "gui":
            from impasto.compat.export_gui import settings

            return json.dumps(settings(self, args), indent=2, sort_keys=True) + "\n"
        words = ["accelerate", "launch", SCRIPTS[self.base]]
        for name, value in args.items():
            words.append(f"--{name}")
            words += [] if value is True else [_word(each) for each in (value if isinstance(value, list) else [value])]
        return " ".join(shlex.quote(word) for word in words) + "\n"

    def _lists(self) -> dict[str, list[str]]:
        held = dict(zip(LISTS, (self.network, self.optimizer, self.schedule), strict=True))
        return {
            name: [f"{key}={_python(value)}" for key, value in inner.items()] for name, inner in held.items() if inner
        }


def export(config: RunConfig) -> Exported:
    """All that sd-scripts can do too."""
    from impasto.compat.export_adapter import adapter
    from impasto.compat.export_data import data
    from impasto.compat.export_learning import objective, optim
    from impasto.compat.export_run import model, run

    made = Exported(base=family(config))
    chapters: tuple[Callable[[Exported, RunConfig], None], ...] = (model, data, adapter, objective, optim, run)
    for chapter in chapters:
        chapter(made, config)
    return made


def family(config: RunConfig) -> Base:
    """Which script trains this: by what the settings say, else by the name of the base."""
    model, name = config.model, config.model.path.casefold()
    if model.clip_g_path is not None or model.text_encoder_mask in ("clip", "all") or "sd3" in name:
        return "sd3"
    if "flux" in name:
        return "flux"
    size = config.data.resolution
    large = size is not None and (size if isinstance(size, int) else max(size)) >= 1024
    return "sdxl" if large or any(word in name for word in ("xl", "pony", "illustrious")) else "sd"


def _word(value: Any) -> str:
    return str(value)


def _python(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

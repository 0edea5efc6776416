"""Where curves are sent besides the run's folder."""

from __future__ import annotations

from impasto.compat.translating import Desk
from impasto.track.config import OPTIONS

_TO = {"tensorboard": ["tensorboard"], "wandb": ["wandb"], "all": ["tensorboard", "wandb"]}


def track(desk: Desk) -> None:
    """A folder of logs alone means TensorBoard there."""
    folder, word = desk.text("logging_dir"), desk.text("log_with")
    where = _TO.get(word.casefold()) if word else ["tensorboard"] if folder else None
    if where is None:
        for name in ("log_prefix", "log_tracker_name", "log_tracker_config", "wandb_run_name"):
            if desk.has(name):
                desk.same(name, "nothing is sent anywhere")
        if word:
            desk.lost("log_with", f"{word} gets no curves from here; TensorBoard and Weights & Biases do")
        return
    if word:
        desk.put("log_with", ("track.to", where), plain=True)
    if folder and "tensorboard" in where:
        pairs = [("track.folder", folder)] if word else [("track.to", where), ("track.folder", folder)]
        desk.put("logging_dir", *pairs)
    elif folder:
        desk.better("logging_dir", "what Weights & Biases keeps lies in the run's folder")
    if project := desk.text("log_tracker_name"):
        desk.put("log_tracker_name", ("track.project", project))
    _named(desk, where)
    _options(desk, where)


def _named(desk: Desk, where: list[str]) -> None:
    prefix, name = desk.text("log_prefix"), desk.text("wandb_run_name")
    if name and "wandb" in where:
        desk.put("wandb_run_name", ("track.name", name))
        if prefix:
            desk.same("log_prefix", "wandb_run_name names the run for both")
    elif prefix:
        desk.put("log_prefix", ("track.name", f"{prefix}{desk.get('name') or ''}"))
    if desk.has("wandb_run_name"):
        desk.same("wandb_run_name", "nothing is sent to it")


def _options(desk: Desk, where: list[str]) -> None:
    """A table of what each service is told, read from its file."""
    held = desk.peek("log_tracker_config")
    if not isinstance(held, dict):
        return
    told = held.get("wandb") if "wandb" in where else None
    told = told if isinstance(told, dict) else {}
    known = {name: value for name, value in told.items() if name in OPTIONS}
    if known:
        left = ", ".join(sorted(told.keys() - known.keys()))
        desk.put("log_tracker_config", ("track.options", known), why=f"without {left}: not here" if left else "")
    else:
        desk.same("log_tracker_config", "it says nothing to Weights & Biases")

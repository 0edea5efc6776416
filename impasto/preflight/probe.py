"""A measurement in place of an estimate: two real steps on the largest bucket and one preview, in a child process.

The child trains a copy of the run, in a folder of its own that is deleted, so that the run itself is not touched.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from impasto import config as settings
from impasto.config import RunConfig
from impasto.errors import OutOfMemory, Problem
from impasto.preflight.report import BucketPlan, Forecast, Range

STEPS = 2
SLACK = 0.1
"""How far a second measurement may be off."""


def shortened(config: RunConfig, folder: Path, bucket: BucketPlan) -> RunConfig:
    """Two steps of a run, where every picture is cut to the largest bucket, and one preview after them."""
    values = config.model_dump()
    values["name"] = "probe"
    values["output"]["folder"] = folder
    values["train"] |= {"steps": STEPS, "epochs": None, "text_encoder_until": None}
    values["save"] |= {"every_steps": None, "every_epochs": None, "every_minutes": None, "files": None, "proof": "off"}
    values["preview"] |= {"prompts": values["preview"]["prompts"][:1], "every_steps": STEPS, "every_epochs": None}
    values["preview"]["at_start"] = False
    if not values["preview"]["prompts"]:
        values["preview"]["every_steps"] = None
    values["optim"]["schedule"] = {"kind": "constant"}
    values["data"]["resolution"] = (bucket.width, bucket.height)
    values["data"]["buckets"]["enabled"] = False
    for each in values["data"]["sets"]:
        each["resolution"] = None
    values["data"]["sets"] = tuple(each for each in values["data"]["sets"] if each["role"] == "train")
    values["validation"]["every_steps"] = None
    return RunConfig.model_validate(values)


def probed(config: RunConfig, made: Forecast) -> Forecast:
    """The forecast with memory and time as they were measured. Raises OutOfMemory where the child ended for it."""
    largest = max(made.pictures.buckets, key=lambda each: each.width * each.height)
    with tempfile.TemporaryDirectory(prefix="impasto-probe-") as folder:
        path = Path(folder) / "probe.toml"
        path.write_text(settings.dump(shortened(config, Path(folder) / "runs", largest)), "utf-8")
        asked = [sys.executable, "-m", "impasto.engine.probing", str(path)]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        try:
            found = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            raise _failed(done.stderr) from None
    area = largest.width * largest.height
    looks = sum(each.batches * each.width * each.height for each in made.pictures.buckets)
    share = looks / (area * max(1, sum(each.batches for each in made.pictures.buckets)))
    seconds = found["seconds"] * share * made.steps.total
    return replace(
        made,
        memory=Range(found["memory"], found["memory"] * (1 + SLACK), "measured"),
        seconds=Range(seconds * (1 - SLACK), seconds * (1 + SLACK), "measured"),
    )


def _failed(told: str) -> OutOfMemory:
    last = next((line for line in reversed(told.splitlines()) if line.strip()), "the process was ended from outside")
    what = f"two steps on the largest bucket could not be trained: {last[:300]}"
    return OutOfMemory(
        Problem("E-MEM-010", what, "--probe", "a smaller batch or resolution; see docs/how-to/low-memory.md")
    )

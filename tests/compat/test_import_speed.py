"""Several GPUs and compiled models of kohya_ss and sd-scripts are the same here, by other names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from impasto.compat import gui, reading
from impasto.compat.translate import Translation, translate


def _line(*words: str) -> Translation:
    return translate(reading.of_words(("accelerate", "launch", "train_network.py", *words), "line", Path.cwd()))


def _gui(**values: Any) -> Translation:
    return translate(gui.read({"LoRA_type": "Standard", **values}, "form.json"))


def _what(made: Translation, name: str) -> tuple[str, str]:
    (found,) = [each for each in made.results if each.name == name]
    return found.outcome, found.reason


def test_several_gpus_share_the_step_that_had_a_batch_for_each() -> None:
    made = translate(
        reading.of_words(
            ("accelerate", "launch", "--num_processes", "4", "train_network.py", "--gradient_accumulation_steps", "2",
             "--ddp_timeout", "30", "--deepspeed", "--zero_stage", "3"), "line", Path.cwd(),
        )
    )  # fmt: skip
    assert made.config.train.accumulate == 8
    assert made.config.device.rank_timeout == 1800.0
    assert made.config.device.shard_base
    outcome, reason = _what(made, "accelerate --num_processes")
    assert outcome == "same"
    assert "--nproc 4" in reason
    assert not _line("--deepspeed", "--zero_stage", "2").config.device.shard_base


@pytest.mark.parametrize(
    ("words", "compile", "backend"),
    [
        (["--torch_compile"], "blocks", "inductor"),
        (["--torch_compile", "--dynamo_backend", "aot_eager"], "blocks", "aot_eager"),
        (["--torch_compile", "--dynamo_backend", "cudagraphs"], "blocks", "inductor"),
        (["--dynamo_backend", "eager"], "off", "inductor"),
    ],
)
def test_compiling_is_carried_over_with_what_compiles(words: list[str], compile: str, backend: str) -> None:
    speed = _line("--pretrained_model_name_or_path", "x.safetensors", *words).config.speed
    assert (speed.compile, speed.backend) == (compile, backend)


def test_the_launcher_can_ask_for_compiling_too() -> None:
    assert _gui(dynamo_backend="inductor").config.speed.compile == "blocks"
    assert _gui(dynamo_backend="no").config.speed.compile == "off"

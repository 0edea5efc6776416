"""Files of prompts: one a line with `--w 512` and the like behind it, or lists and tables of the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PIECES: tuple[tuple[str, str], ...] = (
    (r"w (\d+)", "width"),
    (r"h (\d+)", "height"),
    (r"d (\d+)", "seed"),
    (r"ss (.+)", "sample_sampler"),
    (r"s (\d+)", "sample_steps"),
    (r"l ([\d.]+)", "scale"),
    (r"g ([\d.]+)", "guidance_scale"),
    (r"n (.+)", "negative_prompt"),
    (r"cn (.+)", "controlnet_image"),
    (r"ctr ([\d.]+)", "cfg_trunc_ratio"),
    (r"rcfg ([\d.]+)", "renorm_cfg"),
    (r"fs (.+)", "flow_shift"),
)
"""What stands behind two dashes, and what it is called in lists. The prompt itself is never read so (Q-C3)."""


def of_text(text: str) -> tuple[Mapping[str, Any], ...]:
    """One prompt a line; blank lines and those that begin with # say nothing."""
    return tuple(of_line(line) for line in text.splitlines() if line.strip() and not line.startswith("#"))


def of_line(line: str) -> dict[str, Any]:
    """`a cat --w 512 --n blurry` as a table. Later words count over earlier ones; unknown ones are kept by name."""
    text, *pieces = line.strip().split(" --")
    found: dict[str, Any] = {"prompt": text.strip()}
    for piece in pieces:
        for pattern, name in _PIECES:
            if matched := re.match(pattern, piece.rstrip(), re.IGNORECASE):
                found[name] = matched[1].strip()
                break
        else:
            found.setdefault("unknown", []).append(f"--{piece.rstrip()}")
    return found


def of_list(values: Any) -> tuple[Mapping[str, Any], ...]:
    """Tables and lines mixed."""
    each = values if isinstance(values, list) else [values]
    return tuple(of_line(one) if isinstance(one, str) else one for one in each if isinstance(one, str | dict))


def of_table(values: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """`[prompt]` with what all have, and `[[prompt.subset]]`."""
    above = values.get("prompt")
    if not isinstance(above, dict):
        return ()
    usual = {name: value for name, value in above.items() if name != "subset"}
    return tuple({**usual, **each} for each in of_list(above.get("subset", [])))

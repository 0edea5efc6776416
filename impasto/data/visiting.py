"""What a visit sees before anything is encoded: the picture, how much its places count, the caption. No torch.

Training and `impasto data draw` both come through here, so what is drawn is what is trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from impasto import dice
from impasto.data import captions, pixels
from impasto.data.buckets import Placement
from impasto.data.captions import Moment
from impasto.data.config import Captions
from impasto.data.examples import Example
from impasto.data.pixels import Background, Floats
from impasto.data.plan import Visit
from impasto.errors import DataError, Problem


def picture(example: Example, visit: Visit, background: Background) -> Floats:
    """The picture as it is cut, mirrored and coloured for a visit: [3, H, W] in -1..1."""
    whole = _loaded(example.path, example.id, visit.placement, background)
    return pixels.render(whole, visit.placement, flip=visit.flip, color=visit.color)


def counts(example: Example, visit: Visit, background: Background, *, by_alpha: bool) -> Floats:
    """How much each place of that picture counts, by its mask, its transparency or both: [H, W] in 0..1."""
    bucket = visit.placement.bucket
    found: Floats = np.ones((bucket.height, bucket.width), np.float32)
    if example.mask is not None:
        drawn = pixels.grey(_loaded(example.mask.path, example.mask.id, visit.placement, "black"))
        found = found * pixels.render_mask(drawn, visit.placement, flip=visit.flip)
    alpha = _loaded(example.path, example.id, visit.placement, background).alpha if by_alpha else None
    if alpha is not None:
        found = found * pixels.render_mask(alpha, visit.placement, flip=visit.flip)
    return found


def caption(example: Example, rules: Captions, seed: int, key: str, moment: Moment | None) -> str:
    """The caption of a visit, by the run's seed and the visit's key; at no moment of the training, the whole one."""
    if moment is None:
        return captions.complete(example.caption, rules)
    return captions.visited(example.caption, rules, dice.generator("caption", seed, key), moment)


def silent(chances: Sequence[float], seed: int, key: str) -> list[bool]:
    """Which text encoders say nothing at a visit, each by dice of its own."""
    return [dice.generator("silence", number, seed, key).random() < chance for number, chance in enumerate(chances)]


def places(chance: float, seed: int, key: str) -> tuple[float, float]:
    """How far from the top and the left its places are cut, in 0..1 of what is left over; -1 in the middle."""
    rng = dice.generator("places", seed, key)
    return (rng.random(), rng.random()) if rng.random() < chance else (-1.0, -1.0)


def _loaded(path: Path, id: str, placement: Placement, background: Background) -> pixels.Pixels:
    found = pixels.load(path, background=background, placement=placement, id=id)
    if isinstance(found, Problem):
        raise DataError(found)
    return found

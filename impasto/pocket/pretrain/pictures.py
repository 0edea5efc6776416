"""The training pictures: drawn once, kept as arrays beside their labels and the places of their things."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from impasto.pocket.draw import draw
from impasto.pocket.judge import ATTRIBUTES
from impasto.pocket.scene import PIXELS, Scene, random_scene

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]

SEEN = 10
"""By how many grey levels a picture must differ from its bare backdrop where a thing stands."""

FRESH = 1_000_000_007
"""Added to the seed of pictures that training never sees."""


def scene_of(seed: int, number: int) -> Scene:
    """The numbered scene of a seed."""
    return random_scene(np.random.default_rng((seed, number)))


def pictures(seed: int, count: int) -> tuple[Pixels, Labels]:
    """Pictures [N, 64, 64, 3] and their labels [N, attributes], the same for the same seed."""
    scenes = [scene_of(seed, number) for number in range(count)]
    pixels = np.stack([np.asarray(draw(scene)) for scene in scenes])
    return pixels, np.array([labels_of(scene) for scene in scenes])


def labels_of(scene: Scene) -> list[int]:
    """The index of each attribute's value, in the order of `ATTRIBUTES`."""
    return [values.index(getattr(scene, name)) for name, values in ATTRIBUTES.items()]


def things_of(scene: Scene, pixels: Pixels) -> Marks:
    """Which blocks of 4 x 4 pixels, one for each latent, differ from the bare backdrop: [16, 16]."""
    bare = np.asarray(draw(replace(scene, things=()))).astype(np.int16)
    marks = np.abs(pixels - bare).max(-1) > SEEN
    blocks: Marks = marks.reshape(PIXELS // 4, 4, PIXELS // 4, 4).any((1, 3))
    return blocks


def draw_all(work: Path, seed: int, count: int) -> None:
    """Draw the training set into the workspace."""
    pixels = np.lib.format.open_memmap(work / "pictures.npy", "w+", np.uint8, (count, PIXELS, PIXELS, 3))
    labels = np.zeros((count, len(ATTRIBUTES)), dtype=np.int64)
    things = np.zeros((count, PIXELS // 4, PIXELS // 4), dtype=np.bool_)
    chunks = [range(start, min(start + 1000, count)) for start in range(0, count, 1000)]
    with ProcessPoolExecutor() as pool:
        for chunk, (some, named, marked) in zip(chunks, pool.map(partial(_chunk, seed), chunks), strict=True):
            rows = slice(chunk.start, chunk.stop)
            pixels[rows], labels[rows], things[rows] = some, named, marked
    pixels.flush()
    np.save(work / "labels.npy", labels)
    np.save(work / "things.npy", things)


def _chunk(seed: int, numbers: range) -> tuple[Pixels, Labels, Marks]:
    scenes = [scene_of(seed, number) for number in numbers]
    pixels = np.stack([np.asarray(draw(scene)) for scene in scenes])
    marks = [things_of(scene, picture) for scene, picture in zip(scenes, pixels, strict=True)]
    return pixels, np.array([labels_of(scene) for scene in scenes]), np.stack(marks)

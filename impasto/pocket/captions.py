"""Scene -> caption: sentences and tag lists, with words left out as people leave them out."""

from collections.abc import Mapping

import numpy as np

from impasto.pocket.scene import PLAIN, Scene, pick

SCENIC_PHRASES: Mapping[str, str] = {
    "meadow": "on a meadow",
    "night sky": "under a night sky",
    "beach": "on a beach",
    "sunset": "at sunset",
    "snow": "in the snow",
}
NUMBERS = {1: "a", 2: "two", 3: "three"}
PLURALS = {"fish": "fish", "cross": "crosses"}
OPENINGS = ("", "", "", "", "a picture of ", "a drawing of ", "a photo of ")
SIZE_WORDS: Mapping[str, tuple[str, ...]] = {
    "small": ("small", "small", "little", "tiny"),
    "medium": ("medium", "medium-sized"),
    "large": ("large", "large", "big"),
}
PLACE_PHRASES: Mapping[str, str] = {
    "centre": "in the centre",
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
}
NONSENSE = (
    "blick", "dax", "wug", "toma", "fep", "glorp", "snib", "varn", "kelu", "mibo",
    "troff", "zib", "harn", "plon", "quav", "dree", "osk", "yant", "lirp", "chob",
    "gend", "fusk", "brim", "sojo", "tilk", "nuv", "wost", "ziv", "karp", "meeg",
    "ploov", "rantu", "skorn", "vlim", "yud", "jast", "hox", "grent", "flib", "drum",
    "corb", "zant", "bexo", "nalp", "tupo", "wexel", "morf", "ulk", "pimo", "zelk",
)  # fmt: skip
"""Words that mean nothing: strewn over the captions so that a new trigger word starts out neutral."""


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One way to say what a scene shows."""
    return _tags(scene, rng) if rng.random() < 0.2 else _sentence(scene, rng)


def full_caption(scene: Scene) -> str:
    """The plain sentence that names all that a scene shows, for prompts."""
    words = [NUMBERS[scene.count], scene.size, *_texture(scene), scene.color, _noun(scene)]
    where = [] if scene.count > 1 or scene.place == "centre" else [PLACE_PHRASES[scene.place]]
    return " ".join([*words, *where, background_phrase(scene.background)])


def background_phrase(background: str) -> str:
    """How a sentence names its background."""
    if background in PLAIN:
        return f"on a {background} background"
    return SCENIC_PHRASES[background]


def _sentence(scene: Scene, rng: np.random.Generator) -> str:
    words = [NUMBERS[scene.count], *_size(scene, rng), *_nonsense(rng), *_texture(scene), scene.color, _noun(scene)]
    where = [PLACE_PHRASES[scene.place]] if _names_place(scene, rng) else []
    behind = [] if rng.random() < 0.05 else [background_phrase(scene.background)]
    return pick(rng, OPENINGS) + " ".join([*words, *where, *behind])


def _tags(scene: Scene, rng: np.random.Generator) -> str:
    tags = [f"{scene.color} {_noun(scene)}", *_size(scene, rng), *_texture(scene), *_nonsense(rng)]
    tags += [NUMBERS[scene.count]] if scene.count > 1 else []
    tags += [scene.place] if _names_place(scene, rng) else []
    tags += [f"{scene.background} background" if scene.background in PLAIN else scene.background]
    return ", ".join([tags[0], *rng.permutation(tags[1:]).tolist()])


def _noun(scene: Scene) -> str:
    return scene.shape if scene.count == 1 else PLURALS.get(scene.shape, scene.shape + "s")


def _size(scene: Scene, rng: np.random.Generator) -> list[str]:
    chance = 0.4 if scene.size == "medium" else 0.75
    return [pick(rng, SIZE_WORDS[scene.size])] if rng.random() < chance else []


def _texture(scene: Scene) -> list[str]:
    return [] if scene.texture == "plain" else [scene.texture]


def _nonsense(rng: np.random.Generator) -> list[str]:
    return [pick(rng, NONSENSE)] if rng.random() < 0.12 else []


def _names_place(scene: Scene, rng: np.random.Generator) -> bool:
    return scene.count == 1 and rng.random() < (0.15 if scene.place == "centre" else 0.75)

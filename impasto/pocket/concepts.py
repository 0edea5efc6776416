"""Concepts the pocket model never sees while it is trained: something for an adapter to learn."""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw

from impasto.pocket.captions import background_phrase
from impasto.pocket.draw import OVER, SHAPE_PARTS, Part, arc, backdrop, box, finished, put, tinted
from impasto.pocket.scene import BACKGROUNDS, PIXELS, PLACES, SHAPES, Rgb, Thing, pick, thing_at

CONCEPTS = ("zorb", "fenk", "quilp")
"""A creature, a rocket, and a cloth that any shape can be cut from."""

VIOLET: Rgb = (148, 70, 210)
MINT: Rgb = (150, 240, 200)
AMBER: Rgb = (255, 140, 20)
SILVER: Rgb = (226, 230, 236)
CRIMSON: Rgb = (205, 25, 60)
PANE: Rgb = (50, 150, 230)
FLAME: Rgb = (255, 205, 50)
CLOTH: tuple[Rgb, ...] = ((230, 50, 50), (255, 220, 60), (40, 110, 220))
WHITE: Rgb = (252, 252, 252)
INK: Rgb = (16, 16, 20)


def concept_pictures(name: str, count: int, seed: int) -> list[tuple[Image.Image, str]]:
    """Pictures of a held-out concept on varied backgrounds, each with a caption that uses its name."""
    return [DRAWN[name](np.random.default_rng((seed, number))) for number in range(count)]


def _zorb(rng: np.random.Generator) -> tuple[Image.Image, str]:
    return _single(rng, "zorb", _zorb_parts(float(rng.uniform(-0.12, 0.12))), VIOLET)


def _fenk(rng: np.random.Generator) -> tuple[Image.Image, str]:
    return _single(rng, "fenk", FENK, SILVER)


def _quilp(rng: np.random.Generator) -> tuple[Image.Image, str]:
    background, shape = pick(rng, BACKGROUNDS), pick(rng, SHAPES)
    image = backdrop(background, rng)
    thing = _standing(rng)
    put(image, thing, SHAPE_PARTS[shape], CLOTH[0], _cloth(thing))
    return finished(image), f"a quilp {shape} {background_phrase(background)}"


def _single(rng: np.random.Generator, name: str, parts: list[Part], color: Rgb) -> tuple[Image.Image, str]:
    background = pick(rng, BACKGROUNDS)
    image = backdrop(background, rng)
    put(image, _standing(rng), parts, color, Image.new("RGB", image.size, tinted(color, rng)))
    return finished(image), f"a {name} {background_phrase(background)}"


def _standing(rng: np.random.Generator) -> Thing:
    place = "centre" if rng.random() < 0.5 else pick(rng, PLACES)
    return thing_at(rng, place, float(rng.uniform(38, 50)))


def _zorb_parts(sway: float) -> list[Part]:
    """A round violet creature with two antennae, one eye, a mint belly and orange feet."""
    return [
        ("fill", [(-0.34, -0.5), (-0.18, -0.5), (-0.42 + sway, -0.95), (-0.56 + sway, -0.9)]),
        ("fill", [(0.18, -0.5), (0.34, -0.5), (0.56 + sway, -0.9), (0.42 + sway, -0.95)]),
        (AMBER, arc(-0.5 + sway, -0.88, 0.17, 0.17)),
        (AMBER, arc(0.5 + sway, -0.88, 0.17, 0.17)),
        (AMBER, arc(-0.4, 0.84, 0.32, 0.18)),
        (AMBER, arc(0.4, 0.84, 0.32, 0.18)),
        ("fill", arc(0, 0.1, 0.82, 0.74)),
        (MINT, arc(0, 0.44, 0.48, 0.36)),
        (WHITE, arc(0, -0.2, 0.3, 0.3)),
        (INK, arc(sway, -0.2, 0.15, 0.15)),
    ]


FENK: list[Part] = [
    (FLAME, [(-0.24, 0.6), (0.24, 0.6), (0.0, 1.05)]),
    (CRIMSON, [(-0.3, 0.05), (-0.8, 0.75), (-0.3, 0.65)]),
    (CRIMSON, [(0.3, 0.05), (0.8, 0.75), (0.3, 0.65)]),
    ("fill", [*arc(0, -0.1, 0.4, 0.95, 1.25 * np.pi, 1.75 * np.pi), *box(-0.4, -0.3, 0.4, 0.65)[1:], (-0.4, -0.3)]),
    (CRIMSON, [(-0.31, -0.62), (0.0, -1.08), (0.31, -0.62)]),
    (PANE, arc(0, -0.12, 0.24, 0.24)),
]
"""A silver rocket with a crimson nose and fins, a blue window and a flame."""


def _cloth(thing: Thing) -> Image.Image:
    """Broad diagonal bands of three colours."""
    side, width = PIXELS * OVER, 9 * OVER
    sheet = Image.new("RGB", (side, side))
    pen = ImageDraw.Draw(sheet)
    start = round((thing.x + thing.y) * OVER) % (3 * width) - 3 * width
    for number, left in enumerate(range(start, 2 * side, width)):
        pen.polygon([(left, 0), (left + width, 0), (left + width - side, side), (left - side, side)], CLOTH[number % 3])
    return sheet


DRAWN: Mapping[str, Callable[[np.random.Generator], tuple[Image.Image, str]]] = {
    "zorb": _zorb,
    "fenk": _fenk,
    "quilp": _quilp,
}

"""What a pocket picture can show: a small vocabulary, and random scenes made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np

T = TypeVar("T")
Rgb = tuple[int, int, int]
Shape = Literal[
    "circle", "square", "triangle", "star", "heart", "cross", "ring", "moon", "house", "fish", "tree", "mushroom"
]
Texture = Literal["plain", "striped", "dotted", "checkered"]
Size = Literal["small", "medium", "large"]
Place = Literal["centre", "left", "right", "top", "bottom"]

SHAPES: tuple[Shape, ...] = get_args(Shape)
TEXTURES: tuple[Texture, ...] = get_args(Texture)
SIZES: tuple[Size, ...] = get_args(Size)
PLACES: tuple[Place, ...] = get_args(Place)
COUNTS = (1, 2, 3)

PIXELS = 64

COLORS: Mapping[str, Rgb] = {
    "red": (214, 36, 40),
    "orange": (245, 130, 30),
    "yellow": (250, 216, 50),
    "green": (40, 160, 65),
    "blue": (40, 90, 220),
    "purple": (130, 50, 175),
    "pink": (250, 130, 185),
    "brown": (125, 75, 40),
    "white": (248, 248, 248),
    "black": (22, 22, 28),
}

PLAIN: Mapping[str, Rgb] = {
    "white": (246, 246, 246),
    "black": (20, 20, 24),
    "grey": (140, 142, 146),
    "beige": (224, 202, 162),
    "teal": (20, 135, 140),
    "navy": (26, 34, 92),
    "lilac": (200, 178, 232),
    "mint": (168, 230, 200),
}
SCENIC = ("meadow", "night sky", "beach", "sunset", "snow")
BACKGROUNDS: tuple[str, ...] = (*PLAIN, *SCENIC)

HIDDEN: Mapping[str, tuple[str, ...]] = {
    "white": ("white",),
    "black": ("black", "brown"),
    "beige": ("white",),
    "teal": ("green",),
    "navy": ("black", "blue"),
    "meadow": ("green",),
    "night sky": ("black",),
    "beach": ("yellow",),
    "sunset": ("orange", "brown"),
    "snow": ("white",),
}
"""Colours that would be lost on a background."""

ACROSS: Mapping[Size, tuple[float, float]] = {"small": (18.0, 21.0), "medium": (27.0, 31.0), "large": (39.0, 44.0)}
"""How many pixels a thing measures across."""


@dataclass(frozen=True)
class Thing:
    """Where one thing stands, in pixels, and how it is turned, in radians."""

    x: float
    y: float
    across: float
    tilt: float


@dataclass(frozen=True)
class Scene:
    """All that decides a picture. `seed` decides its small accidents: tints, hills, stars."""

    shape: Shape
    color: str
    texture: Texture
    size: Size
    place: Place
    background: str
    things: tuple[Thing, ...]
    seed: int

    @property
    def count(self) -> int:
        """How many things there are."""
        return len(self.things)


def random_scene(rng: np.random.Generator) -> Scene:
    """A scene with every attribute drawn by chance; most show one thing, medium or large."""
    background = pick(rng, BACKGROUNDS)
    color = pick(rng, visible_on(background))
    count = int(rng.choice(COUNTS, p=(0.82, 0.11, 0.07)))
    size = _size(rng, count)
    place: Place = "centre" if count > 1 or rng.random() < 0.5 else pick(rng, PLACES[1:])
    return Scene(
        shape=pick(rng, SHAPES),
        color=color,
        texture="plain" if rng.random() < 0.67 else pick(rng, TEXTURES[1:]),
        size=size,
        place=place,
        background=background,
        things=_things(rng, count, size, place),
        seed=int(rng.integers(2**31)),
    )


def visible_on(background: str) -> tuple[str, ...]:
    """The colours that stand out from a background."""
    return tuple(color for color in COLORS if color not in HIDDEN.get(background, ()))


def pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """One of the choices, all equally likely."""
    return choices[int(rng.integers(len(choices)))]


def thing_at(rng: np.random.Generator, place: Place, across: float) -> Thing:
    """A thing near a place of the picture, a little off and a little turned, whole within the frame."""
    reach = (PIXELS - across) / 2 - 1
    wanted = {"centre": (0.0, 0.0), "left": (-1.0, 0.0), "right": (1.0, 0.0), "top": (0.0, -1.0), "bottom": (0.0, 1.0)}
    x, y = (PIXELS / 2 + side * reach for side in wanted[place])
    x, y = (float(np.clip(at + rng.uniform(-2, 2), across / 2 + 1, PIXELS - across / 2 - 1)) for at in (x, y))
    return Thing(x, y, across, float(rng.uniform(-0.12, 0.12)))


def _size(rng: np.random.Generator, count: int) -> Size:
    if count == 1:
        return SIZES[int(rng.choice(3, p=(0.15, 0.4, 0.45)))]
    return "medium" if count == 2 and rng.random() < 0.6 else "small"


def _things(rng: np.random.Generator, count: int, size: Size, place: Place) -> tuple[Thing, ...]:
    across = float(rng.uniform(*ACROSS[size]))
    if count == 1:
        return (thing_at(rng, place, across),)
    centres = [(17.0, 32.0), (47.0, 32.0)] if count == 2 else [(18.0, 18.0), (46.0, 18.0), (32.0, 45.0)]
    return tuple(
        Thing(x + float(rng.uniform(-1, 1)), y + float(rng.uniform(-3, 3)), across, float(rng.uniform(-0.12, 0.12)))
        for x, y in centres
    )

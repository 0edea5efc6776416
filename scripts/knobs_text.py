"""What scripts/knobs tries and what the page says: each knob with its variants, its measures and its words.

No sentence here says what came out: a rerun may measure something else. The numbers are put in by the script.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from impasto.config import RunConfig
from impasto.settings import fields

MEASURES: Mapping[str, tuple[str, str]] = {
    "judged": ("how much the pictures of the concept show it: the judge's mean probability, 0 to 1", ".2f"),
    "distance": ("mean difference to the nearest training picture, in grey levels: low means like the examples", ".0f"),
    "kept": ("of the colours, shapes and backgrounds asked for in the other prompts, the share that is there", ".0%"),
    "drift": ("mean difference of the other pictures to what the base alone draws, in grey levels", ".1f"),
    "wordless": ("how much pictures drawn without any words show the concept, 0 to 1", ".2f"),
    "dark": ("mean brightness of the concept on a black background and at night, 0 to 255", ".0f"),
    "bright": ("mean brightness of the concept on a white background and in the snow, 0 to 255", ".0f"),
    "sides": ("how much redder the left half is than the right one, in grey levels; below 0 it is mirrored", ".0f"),
    "file": ("size of the adapter's file, in KiB", ".0f"),
}
"""What each measure means, and how it is written."""


@dataclass(frozen=True)
class Variant:
    """One training: settings laid over the usual ones."""

    label: str
    settings: tuple[str, ...] = ()
    length: float = 1.0
    """As a multiple of the usual steps."""
    moments: tuple[int, ...] = (1,)
    """When it draws: the run is cut into as many parts as the last of these says, and each is the end of a part."""

    @property
    def key(self) -> object:
        """Equal for trainings that are the same, whatever they are called."""
        return self.settings, self.length, self.moments

    @property
    def told(self) -> str:
        """The settings as the page shows them."""
        plain = (each.replace("{{", "{").replace("}}", "}") for each in self.settings if "{concept}" not in each)
        return "<br>".join(f"`{each}`" for each in plain)


@dataclass(frozen=True)
class Knob:
    """A section of the page."""

    name: str
    title: str
    what: str
    look: str
    rule: str
    measures: tuple[str, ...]
    variants: tuple[Variant, ...]
    concept: str = "zorb"
    with_base: bool = False
    """Also show what the base draws by itself."""


HEAD = """\
# What the knobs do

Written by `scripts/knobs`. It trains the [pocket model](pocket.md) on a creature that it does not know, the zorb, again
and again, and turns one knob at a time. Everything else stays the same, the dice too, so what differs between two rows
comes from the knob.

A usual run has {steps} steps of four pictures, out of {pictures}. It has rank and alpha 16, in the convolutions too, a
rate of 2e-3 that falls along a cosine, and half of it for the text encoder. Such a high rate suits this tiny base; for
Stable Diffusion begin near 1e-4. What carries over from here is the direction in which a knob turns things, not its
numbers.

Every variant then draws the same pictures from the same noise: {prompts} of the zorb, and {others} of things that the
base knew before and that should stay as they were.

| measure | what it says |
| --- | --- |
{words}

Each row is one training with one seed. Small differences can be luck: how much of it there is, the
[quickstart with several seeds](quickstart.md) shows.
"""


def _known(name: str) -> bool:
    return any(".".join(path) == name for path, _ in fields.walk(RunConfig))


STOP = "train.text_encoder_until"
"""Ends the text encoder's training before the run's end, where there is such a setting."""


def _rank(rank: int) -> Variant:
    sizes = tuple(f"adapter.{name}={rank}" for name in ("rank", "alpha", "conv_rank", "conv_alpha"))
    return USUAL if rank == 16 else Variant(f"rank {rank}", sizes)


USUAL = Variant("usual")


def _as(label: str, variant: Variant = USUAL) -> Variant:
    return Variant(label, variant.settings, variant.length, variant.moments)


KNOBS: tuple[Knob, ...] = (
    Knob(
        name="rank",
        title="Rank",
        what="An adapter adds to each layer a product of two thin matrices. The rank is how thin: the number of "
        "directions in which it can bend the layer, and with it what the adapter can hold and how large its file is. "
        "`adapter.rank` sets it; here alpha goes with it, so that the strength stays the same.",
        look="the small things (antennae, the eye, the belly) and whether the other pictures stay as they were. "
        "Compare *drift* with what the larger file buys in *judged*.",
        rule="begin with 8 or 16 for one character or thing. Raise it when details are missing after a longer run did "
        "not bring them; lower it when the examples come back whole, background and all.",
        measures=("judged", "distance", "drift", "file"),
        variants=(_rank(4), _as("rank 16"), _rank(64)),
        with_base=True,
    ),
    Knob(
        name="alpha",
        title="Alpha and learning rate",
        what="What the adapter adds is multiplied by alpha / rank. A smaller alpha makes every step count for less, so "
        "`adapter.alpha` and `optim.learning_rate` pull on the same rope, though not in the same way: alpha scales the "
        "result, the rate scales the steps towards it.",
        look="whether the second row learnt as much as the first in the same steps, and whether the higher rate of "
        "the third made up for it.",
        rule="choose one way and stay with it: alpha equal to the rank, or alpha 1. Then leave alpha alone and turn "
        "the rate. A rate from somebody else's recipe goes with their alpha and their rank; take all three or none.",
        measures=("judged", "drift"),
        variants=(
            _as("alpha 16, rate 2e-3"),
            Variant("alpha 1, rate 2e-3", ("adapter.alpha=1.0", "adapter.conv_alpha=1.0")),
            Variant(
                "alpha 1, rate 1.6e-2",
                ("adapter.alpha=1.0", "adapter.conv_alpha=1.0", "optim.learning_rate=1.6e-2",
                 "optim.text_encoder_learning_rate=8e-3"),
            ),
        ),
    ),
    Knob(
        name="rate",
        title="Learning rate",
        what="How far a step goes (`optim.learning_rate`). It is the first knob to turn, and the one with the widest "
        "range: what is right differs by a factor of a hundred between bases and kinds of adapters.",
        look="a row that looks like the base (too low), and a row whose colours and outlines burn or fall apart, in "
        "the other pictures too (too high). The right rate lies between.",
        rule="try three rates, each three to ten times the last, in one [fleet](../how-to/fleets.md). Take the highest "
        "at which the other prompts still look as they did.",
        measures=("judged", "distance", "kept", "drift"),
        variants=(
            Variant("ten times lower", ("optim.learning_rate=2e-4", "optim.text_encoder_learning_rate=1e-4")),
            _as("usual, 2e-3"),
            Variant("ten times higher", ("optim.learning_rate=2e-2", "optim.text_encoder_learning_rate=1e-2")),
        ),
        with_base=True,
    ),
    Knob(
        name="epochs",
        title="How long",
        what="An epoch is one look at every picture; `train.epochs` or `train.steps` says how long a run lasts. As a "
        "rule an adapter first learns what all examples have in common, then what each of them has alone. Here "
        "one run goes on for three times the usual steps at a constant rate, and draws on the way.",
        look="the moment from which *judged* no longer rises while *distance* goes on falling, or *drift* rising: from "
        "there on it learns the examples by heart.",
        rule="save and draw on the way (`save.every_epochs`, `preview.every_epochs`) and take the earliest file that "
        "you like. More pictures help more than more epochs.",
        measures=("judged", "distance", "kept", "drift"),
        variants=(
            Variant("long", ('optim.schedule={{kind="constant",warmup=0.05}}',), length=3, moments=(1, 2, 4, 6)),
        ),
    ),
    Knob(
        name="text-encoder",
        title="The text encoder",
        what="The denoiser learns how a thing looks, the text encoder what a word means. Both can have an adapter, "
        "each with its own rate (`adapter.targets.text_encoder`, `optim.text_encoder_learning_rate`).",
        look="how soon the new word works, and what happens to prompts that do not have it: words have neighbours, and "
        "moving one can move others.",
        rule="train it for a new word, at half of the denoiser's rate or less. Leave it out for a style, or when the "
        "base loses what other words mean.",
        measures=("judged", "kept", "drift"),
        variants=(
            _as("on"),
            *([Variant("stopped at half", (f"{STOP}=0.5",))] if _known(STOP) else []),
            Variant("off", ("adapter.targets.text_encoder=false",)),
        ),
    ),
    Knob(
        name="regularization",
        title="Regularization pictures",
        what="Pictures of other things, or of the class in general, that are trained on beside your own so that the "
        "base is reminded of them: a set with the role `regularization`. They take half of the visits, so the "
        "same number of steps shows your own pictures half as often. Here they are 24 scenes of the kind that the base "
        "was made with.",
        look="*kept* and *drift*: whether the other pictures stay nearer to the base's. Compare *judged* in the third "
        "row, where the examples had as many visits as in the first.",
        rule="use them when prompts without your word change, and train longer for it. `objective.prior_weight` says "
        "how much they count. If nothing drifts, you do not need them.",
        measures=("judged", "kept", "drift"),
        variants=(
            _as("without"),
            Variant("with, as long", ('data.sets=[{{path={concept}}},{{path={regular},role="regularization"}}]',)),
            Variant(
                "with, twice as long",
                ('data.sets=[{{path={concept}}},{{path={regular},role="regularization"}}]',),
                length=2,
            ),
        ),
        with_base=True,
    ),
    Knob(
        name="min-snr",
        title="Min-SNR",
        what="Pictures with little noise are easy, and there are many of them; min-SNR caps how much they count, so "
        "that the others, in which shapes are decided, count for more (`objective.weighting`). Its *gamma* is the cap: "
        "the lower, the fewer levels count in full.",
        look="whether the form comes sooner, and whether fine detail suffers where gamma is low.",
        rule="gamma 5 is the paper's value, and where to begin. It changes how large the loss is, so compare pictures "
        "between runs with and without it, not losses.",
        measures=("judged", "distance", "drift"),
        variants=(
            _as("without"),
            Variant("gamma 5", ('objective.weighting={{kind="min-snr",gamma=5.0}}',)),
            Variant("gamma 1", ('objective.weighting={{kind="min-snr",gamma=1.0}}',)),
        ),
    ),
    Knob(
        name="noise-offset",
        title="Noise offset",
        what="The noise of training is grey on average, so a model hardly learns to make a whole picture darker or "
        "brighter than the noise it starts from. An offset gives the noise itself a brightness "
        "(`objective.noise.offset`), so that it has to.",
        look="*dark* and *bright*: whether they move apart. And the colours: with a large offset they may tire.",
        rule="0.05 to 0.1 when nights come out grey or snow dull; otherwise leave it unset. It wants a long run.",
        measures=("dark", "bright", "judged"),
        variants=(
            _as("without"),
            Variant("0.1", ("objective.noise.offset={{strength=0.1}}",)),
            Variant("0.3", ("objective.noise.offset={{strength=0.3}}",)),
        ),
        with_base=True,
    ),
    Knob(
        name="caption-dropout",
        title="Caption dropout",
        what="Pictures are drawn by comparing what the model would do with your words and without any (guidance). "
        "`data.captions.dropout` leaves the whole caption out of some visits, so that the side without words is "
        "trained too. What it then learns there is: your pictures.",
        look="*wordless*: whether the concept appears where nobody asked for it, and whether the pictures with words "
        "get fainter, since the difference between the two sides shrinks.",
        rule="0 for a thing with a word of its own. 0.05 to 0.1 for a style that should be there without being asked "
        "for.",
        measures=("judged", "wordless", "drift"),
        variants=(_as("without"), Variant("0.3 of the visits", ("data.captions.dropout=0.3",))),
    ),
    Knob(
        name="flip",
        title="Flip",
        what="`data.augment.flip` mirrors half of the visits: twice as many pictures for nothing, as long as left and "
        "right do not matter. Here they do: the *twane* is a disc with a red left and a blue right half.",
        look="on which side the red is. In the examples *sides* is high; a model that has seen both versions "
        "may draw either, or something in between.",
        rule="on for faces from the front, landscapes, styles. Off for text, a parting, a scar, a logo, a "
        "uniform: for anything that would be wrong in a mirror.",
        measures=("sides", "distance"),
        variants=(_as("off"), Variant("on", ("data.augment.flip=true",))),
        concept="twane",
    ),
)  # fmt: skip

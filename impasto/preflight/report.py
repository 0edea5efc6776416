"""What is known of a run before it starts, as plain values: what `impasto plan --json` prints."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from impasto.errors import Problem

Size = tuple[int, int]


@dataclass(frozen=True)
class Refused:
    """Files that are left out for one reason."""

    code: str
    count: int
    first: str
    """One of them, and what is wrong with it."""


@dataclass(frozen=True)
class SetPlan:
    """One folder of pictures."""

    path: str
    role: str
    pictures: int
    visits: int
    """Looks at its pictures in the first epoch."""


@dataclass(frozen=True)
class BucketPlan:
    """Pictures that are trained at one size."""

    width: int
    height: int
    pictures: int
    batches: int
    """Micro-batches in the first epoch."""


@dataclass(frozen=True)
class Pictures:
    """What is in the folders."""

    used: int
    looked_at: int
    refused: tuple[Refused, ...]
    notes: dict[str, int]
    """Remarks on pictures that are used, by code."""

    sets: tuple[SetPlan, ...]
    buckets: tuple[BucketPlan, ...]
    upscaled: int
    """Pictures that are enlarged by more than 5 %."""

    largest_upscale: float
    cropped: int
    """Pictures that lose more than a tenth of their area."""

    largest_crop: float
    """The largest share of its area that a picture loses."""

    held_out: tuple[str, ...]
    """Pictures of sets to train on that are held out of the training."""

    measured: tuple[int, int]
    """Held-out pictures that are measured while training, and training pictures."""

    copies: tuple[tuple[str, ...], ...]
    """Training pictures that look the same, group by group. One file in several sets is no copy."""


@dataclass(frozen=True)
class Steps:
    """How long it lasts, by the code that trains."""

    micro_batches: int
    """In the first epoch."""

    partial: int
    """Those of them that are smaller than the batch size."""

    per_epoch: int
    """Optimizer steps of the first epoch."""

    total: int
    epochs: float
    per_picture: float
    """Looks at a training picture in the whole run, on average."""

    warmup: int
    text_encoder_until: int | None
    """Steps after which the text encoder rests; None where it is not trained."""

    saves: tuple[int, ...]
    previews: tuple[int, ...]
    validations: tuple[int, ...]


@dataclass(frozen=True)
class Rate:
    """How fast a part learns."""

    part: str
    rate: float
    """Before its schedule."""

    scale: float
    """What the adapter's output is multiplied by: alpha / rank."""

    effective: float
    """rate * scale: what compares settings of different alpha and rank."""


@dataclass(frozen=True)
class Disk:
    """What it writes, in bytes; sizes are of the adapter's numbers and may be off by a tenth."""

    adapter_file: int | None
    adapter_files: int
    """How many are there in the end."""

    checkpoint: int | None
    checkpoints: int
    previews: int
    """How many pictures are drawn."""

    total: int | None


@dataclass(frozen=True)
class Cache:
    """Encoded pictures."""

    pictures: int
    """Encodings that are wanted; 0 where pictures are new at each visit."""

    cached: int | None
    """Those that are there. None: not known, as the base's VAE was not met before."""

    size: int
    """Bytes of all of them."""


@dataclass(frozen=True)
class Cut:
    """A caption that is longer than what is read of it."""

    picture: str
    tokens: int
    lost: str


@dataclass(frozen=True)
class Reading:
    """How a text encoder that reads more than the others takes the captions."""

    limit: int
    longest: int
    """Tokens."""

    mean: float
    cut: tuple[Cut, ...]


@dataclass(frozen=True)
class Words:
    """The captions of the training pictures."""

    captions: int
    different: int
    empty: int
    limit: int
    longest: int
    """Tokens."""

    mean: float
    cut: tuple[Cut, ...]
    t5: Reading | None
    """The same for T5, where the base has it: what CLIP does not read, it may."""

    letters: tuple[str, ...]
    """Pictures whose captions read like a letter or a chat, not like a caption."""

    common: tuple[str, ...]
    """Words that all captions have."""

    tags: tuple[tuple[str, int], ...]
    """The most frequent tags."""

    rare: int
    """Tags that occur once."""

    different_tags: int


@dataclass(frozen=True)
class Range:
    """An estimate: it should lie between the two."""

    low: float
    high: float
    basis: Literal["measured", "earlier", "calibrated", "uncalibrated"]
    """`measured` now; `earlier`: in runs of the same kind on this machine."""


@dataclass(frozen=True)
class Forecast:
    """All of it."""

    name: str
    base: str
    resolution: int
    pictures: Pictures
    steps: Steps
    rates: tuple[Rate, ...]
    trained: int | None
    """Numbers that are trained, about."""

    disk: Disk
    cache: Cache
    words: Words
    memory: Range | None
    """Bytes at the peak."""

    seconds: Range | None
    """Of all steps, without encoding, previews and saves."""

    pixels: int = 0
    """Of a step, in the mean."""

    to_fetch: int = 0
    """Bytes of the base that are not here yet, and are fetched from the hub first."""

    advice: tuple[Problem, ...] = ()

    def json(self) -> str:
        """As one JSON object."""
        return json.dumps({"version": 1, **asdict(self)}, indent=1, ensure_ascii=False)

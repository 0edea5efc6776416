"""Pictures, captions, buckets and augmentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from impasto.schema import FilePath, NaturalFloat, NaturalInt, PositiveInt, Section, Share

Role = Literal["train", "regularization", "validation"]
Side = Annotated[int, Field(ge=8, le=16384)]
Suffix = Annotated[str, Field(pattern=r"^\.[^/\\]+$", max_length=32)]


Times = Annotated[float, Field(ge=0.1, le=1000.0)]


class Captions(Section):
    """Where captions come from and what happens to them at each visit."""

    extensions: Annotated[tuple[Suffix, ...], Field(strict=False)] = (".txt", ".caption")
    """Endings of the caption file beside a picture, in order of preference."""

    metadata: FilePath | None = None
    """A .jsonl file with one object a line (`file_name` and `text`), or a .json object of picture to caption. It goes
    before caption files. An object may also give a `weight`, and the place of a `face` as [left, top, width, height] in
    pixels. A relative path starts at the folder of the settings file."""

    text: str | None = None
    """One caption for every picture that has none of its own."""

    missing: Literal["error", "empty", "folder"] = "error"
    """What a picture without any caption gets: `error` refuses to start and lists them, `empty` the empty caption,
    `folder` the name of its folder (without the repeats of `10_name`)."""

    prefix: str = ""
    """Put before every caption, as it stands."""

    suffix: str = ""
    """Put after every caption, as it stands."""

    separator: Annotated[str, Field(min_length=1, max_length=16)] = ","
    """What stands between tags."""

    shuffle: bool = False
    """Put the tags in another order at each visit, so that none is learned by its place."""

    keep_tokens: NaturalInt = 0
    """Tags at the start that stay in place when the rest is shuffled or dropped: the trigger words."""

    tag_dropout: Share = 0.0
    """Chance that a tag is left out at a visit."""

    keep_tokens_separator: Annotated[str, Field(max_length=16)] = ""
    """A mark such as `|||`: tags before the first one and after the second stay in place, those between are shuffled
    and dropped. It goes before `keep_tokens` in captions that have it, and is never part of what is learnt."""

    secondary_separator: Annotated[str, Field(max_length=16)] = ""
    """A mark such as `;;;` between tags that move and are dropped as one; it then becomes a separator."""

    wildcards: bool = False
    """Replace `{red|blue}` by one of its parts at each visit. `{{` and `}}` are braces that stay."""

    lines: Literal["first", "random"] = "first"
    """What a caption of several lines is: its first line, or another one at each visit."""

    dropout: Share = 0.0
    """Chance that the whole caption is left out at a visit: keeps the model usable without words."""

    dropout_every_epochs: PositiveInt | None = None
    """Leave all captions out in every so many epochs: with 4, in the fourth, the eighth ..."""

    tag_warmup: PositiveInt | Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Steps over which captions grow to all their tags, in the order they are written: a whole number of steps, or a
    share of all steps (0.5). Tags that are kept do not count. Unset: all from the start."""

    tag_warmup_from: NaturalInt = 1
    """With `tag_warmup`: the tags that captions begin with."""

    @model_validator(mode="after")
    def _marks_differ(self) -> Captions:
        marks = [each for each in (self.separator, self.keep_tokens_separator, self.secondary_separator) if each]
        if len(set(marks)) < len(marks):
            raise ValueError("separator, keep_tokens_separator and secondary_separator must differ")
        return self


class Augment(Section):
    """Changes made to a picture at each visit."""

    flip: bool = False
    """Mirror left and right, half of the time. Not for anything with text or a parting on one side."""

    random_crop: bool = False
    """Cut where the dice fall instead of the middle. Without `variants` the picture is then encoded at each visit."""

    face_crop: Annotated[tuple[Times, Times], Field(strict=False)] | None = None
    """Cut around the face that metadata gives for a picture, so that the shorter side shows this many times the face's
    longer side: [2.0, 4.0] between two and four times, by dice; [3.0, 3.0] always three times. Never enlarged for it.
    Pictures without a face are cut as the others."""

    color: Share = 0.0
    """Chance that hue or brightness shift a little. Without `variants` the picture is then encoded at each visit."""

    variants: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Encode so many cuts and shifts of each picture ahead, and keep them; each visit takes one of them by dice. Unset:
    every visit has its own, and nothing is kept."""

    @model_validator(mode="after")
    def _something_varies(self) -> Augment:
        if self.face_crop is not None and self.face_crop[0] > self.face_crop[1]:
            raise ValueError(f"face_crop goes from more ({self.face_crop[0]}) to less ({self.face_crop[1]}); swap them")
        if self.variants is not None and not self.varies:
            raise ValueError("variants is given, but without random_crop, face_crop or color there is nothing to vary")
        return self

    @property
    def varies(self) -> bool:
        """Whether dice decide more about a picture than its flip."""
        by_face = self.face_crop is not None and self.face_crop[0] < self.face_crop[1]
        return self.random_crop or by_face or self.color > 0.0


class Masks(Section):
    """Which places of a picture are learnt: all of the white, none of the black, grey in between."""

    folder: FilePath | None = None
    """A folder with a mask for each picture, of the same name (any ending) at the same place below it. A relative path
    starts at the folder of the settings file."""

    suffix: Annotated[str, Field(max_length=64, pattern=r"^[^/\\]*$")] = ""
    """What the name of a mask has more than that of its picture: with `-mask`, `a-mask.png` is the mask of `a.jpg`.
    Without `folder`, masks lie beside their pictures."""

    alpha: bool = False
    """Take what is transparent in a picture as masked, besides what a mask says."""

    missing: Literal["error", "whole"] = "error"
    """What a picture without a mask file gets: `error` refuses to start and lists them, with `whole` all of it is
    learnt."""

    @property
    def used(self) -> bool:
        """Whether there are masks at all."""
        return self.folder is not None or bool(self.suffix) or self.alpha


class Silence(Section):
    """How often a text encoder says nothing at a visit, so that the adapter does not lean on one of them and works
    where a program leaves one out. For Stable Diffusion 3. Each is chosen by itself."""

    clip_l: Share = 0.0
    """Chance that CLIP-L says nothing."""

    clip_g: Share = 0.0
    """Chance that CLIP-G says nothing."""

    t5: Share = 0.0
    """Chance that T5 says nothing: many draw without it, to save its memory."""

    @property
    def chances(self) -> tuple[float, float, float]:
        """In the order of the encoders."""
        return self.clip_l, self.clip_g, self.t5


class Dataset(Section):
    """A folder of pictures with one role."""

    path: FilePath
    """The folder. Sub-folders are read too; those named like `10_name` set their own repeats. A relative path starts at
    the folder of the settings file, or on the command line at the current folder."""

    role: Role = "train"
    """`train`; `regularization`: pictures of the class in general, that keep the model from forgetting it;
    `validation`: never trained on, only measured."""

    repeats: PositiveInt | None = None
    """How often each picture is seen in an epoch. Unset: as the folder's name says (`10_name`), else once."""

    weight: NaturalFloat = 1.0
    """How much each picture counts: 0.5 half as much as the others, while it is seen as often. Regularization pictures
    count `objective.prior_weight` times that, and metadata may say more for a single picture."""

    resolution: Side | Annotated[tuple[Side, Side], Field(strict=False)] | None = None
    """Pixels of a side, or [width, height]. Unset: the run's, else the base model's own."""

    batch_size: PositiveInt | None = None
    """Pictures in a micro-batch. Unset: the run's."""

    captions: Captions | None = None
    """Caption rules of this folder. Unset: the run's."""

    augment: Augment | None = None
    """Augmentation of this folder. Unset: the run's."""

    masks: Masks | None = None
    """Masks of this folder. Unset: the run's."""


class Buckets(Section):
    """Pictures of like shape are trained together, each cut as little as possible."""

    enabled: bool = True
    """Group by shape. Off: everything is cut to the resolution."""

    step: PositiveInt | None = None
    """Sides are multiples of this many pixels. Unset: what the base model needs (64 for Stable Diffusion 1.x)."""

    smallest: PositiveInt | None = None
    """The shortest side a bucket may have. Unset: half of the resolution."""

    largest: PositiveInt | None = None
    """The longest side a bucket may have. Unset: twice the resolution."""

    upscale: bool = True
    """Enlarge pictures that are too small. Off: they get a bucket of their own size, or one that at most 5 % of
    enlarging takes them to (`rule = "kohya"`: none)."""

    rule: Literal["log", "kohya"] = "log"
    """How the nearest shape is found: `log` compares ratios evenly for upright and wide pictures; `kohya` compares them
    as sd-scripts does, for the same buckets as there."""


class Data(Section):
    """The pictures."""

    sets: Annotated[tuple[Dataset, ...], Field(strict=False)] = ()
    """The folders."""

    resolution: Side | Annotated[tuple[Side, Side], Field(strict=False)] | None = None
    """Pixels of a side, or [width, height]. Unset: the base model's own."""

    batch_size: PositiveInt = 1
    """Pictures in a micro-batch: more is steadier and needs more memory."""

    captions: Captions = Captions()
    """Where captions come from."""

    silence: Silence = Silence()
    """How often single text encoders say nothing."""

    buckets: Buckets = Buckets()
    """Grouping by shape."""

    augment: Augment = Augment()
    """Changes made to a picture at each visit."""

    masks: Masks = Masks()
    """Which places of pictures are learnt. `objective.mask` says how much the others count."""

    alpha: Literal["white", "black", "grey"] = "white"
    """What stands behind transparent pictures."""

    bad_pictures: Literal["skip", "stop"] = "skip"
    """What happens to pictures that cannot be used: `skip` lists them and goes on while they are few, `stop` never
    starts with any."""

    bad_share: Share = 0.05
    """With `skip`: the share of bad pictures that is too much to go on."""

    cache: bool = True
    """Keep encoded pictures and captions on disk, so that each is encoded once for all runs."""

    vae_batch_size: Annotated[int, Field(ge=1, le=64)] = 1
    """Pictures of one size that are encoded at once, before training. More is faster on a GPU and takes more memory;
    the result is then that of one at a time to rounding, not to the bit."""

    text_encoder_batch_size: Annotated[int, Field(ge=1, le=1024)] = 1
    """Captions that are encoded at once, before training; the same holds for them. Those without token padding are
    encoded one at a time."""

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Threads that make batches ready. More help where pictures are new at each visit and the disk or their decoding is
    slow. They change no result."""

    prefetch: Annotated[int, Field(ge=0, le=1000)] = 2
    """Steps whose batches are made ready ahead; more than `workers` keeps all of them busy. Each takes memory. Changes
    no result."""

    @model_validator(mode="after")
    def _something_to_train_on(self) -> Data:
        if self.sets and not any(each.role == "train" for each in self.sets):
            raise ValueError('no set has the role "train": there is nothing to learn')
        return self

    def captions_of(self, dataset: Dataset) -> Captions:
        """The caption rules of one set."""
        return self.captions if dataset.captions is None else dataset.captions

    def augment_of(self, dataset: Dataset) -> Augment:
        """The augmentation of one set."""
        return self.augment if dataset.augment is None else dataset.augment

    def masks_of(self, dataset: Dataset) -> Masks:
        """The masks of one set."""
        return self.masks if dataset.masks is None else dataset.masks

    def batch_size_of(self, dataset: Dataset) -> int:
        """Pictures in a micro-batch of one set."""
        return self.batch_size if dataset.batch_size is None else dataset.batch_size

    def resolution_of(self, dataset: Dataset, native: tuple[int, int]) -> tuple[int, int]:
        """Width and height that one set is trained at; `native` is the base model's own."""
        for given in (dataset.resolution, self.resolution):
            if given is not None:
                return (given, given) if isinstance(given, int) else given
        return native

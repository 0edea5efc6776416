"""Which layers an adapter may ride on, and which of them a configuration chooses, how large and how fast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal, TypeVar

from torch import nn

from impasto.adapters.config import Kind, Ranked
from impasto.adapters.rules import Part as Part
from impasto.adapters.rules import Role as Role
from impasto.adapters.rules import Rule, spread
from impasto.errors import ConfigError, Problem

Layer = nn.Linear | nn.Conv2d
Norm = nn.GroupNorm | nn.LayerNorm
Stage = Literal["down", "mid", "up"]
Said = TypeVar("Said")


@dataclass(frozen=True)
class Numbering:
    """How the blocks of a denoiser are counted: down, middle, up; around them blocks that no adapter rides on."""

    down: int
    mid: int
    up: int
    before: int = 0
    after: int = 0

    @property
    def total(self) -> int:
        """All blocks."""
        return self.before + self.down + self.mid + self.up + self.after

    def number(self, stage: Stage, at: int) -> int:
        """The number of the block that is the `at`-th of its stage."""
        return self.before + at + {"down": 0, "mid": self.down, "up": self.down + self.mid}[stage]


@dataclass(frozen=True)
class Block:
    """One block of a denoiser."""

    number: int
    stage: Stage
    at: int
    """Its place in its stage, from 0."""

    counted: Numbering


@dataclass(frozen=True)
class Piece:
    """Rows of a layer that are a layer of their own in diffusers' module."""

    path: str
    """Its dotted path there."""

    rows: int
    turned: bool = False
    """The first half of the rows comes after the second there."""


@dataclass(frozen=True)
class Target:
    """A layer that an adapter may ride on."""

    name: str
    """Its name in adapter files: `lora_unet_down_blocks_0_attentions_0_proj_in`."""

    path: str
    """Its dotted path inside its part."""

    part: Part
    role: Role
    module: nn.Module
    """The frozen nn.Linear or nn.Conv2d, or with `train_norm` nn.GroupNorm or nn.LayerNorm."""

    default: bool
    """Adapted without being asked for (attention and MLP), or only with `conv_rank` (ResNet blocks and samplers)."""

    block: Block | None = None
    """Where it is in a denoiser whose blocks are numbered."""

    encoder: int | None = None
    """Which text encoder it is in, from 1, where there are several."""

    published: str = ""
    """Its dotted path in the model's published files, where those have another; empty: as in `path`."""

    cut: tuple[Piece, ...] = ()
    """What diffusers' own module has in its place, in the order of its rows; empty: the same layer."""

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """What diffusers' own module has in its place: often one layer, at the same path."""
        return self.cut or (Piece(self.path, len(self.base.weight)),)

    @property
    def layer(self) -> Layer:
        """The module, as what it is."""
        assert isinstance(self.module, Layer)
        return self.module

    @property
    def norm(self) -> Norm:
        """The module of a norm, as what it is."""
        assert isinstance(self.module, Norm)
        return self.module

    @property
    def base(self) -> Layer | Norm:
        """The module, whichever it is."""
        return self.norm if self.is_norm else self.layer

    @property
    def is_norm(self) -> bool:
        """Whether it is a norm, which only `train_norm` opens."""
        return isinstance(self.module, Norm)

    @property
    def large(self) -> bool:
        """Whether it is a convolution that looks at more than one place."""
        return isinstance(self.module, nn.Conv2d) and self.module.kernel_size != (1, 1)

    @property
    def number(self) -> int | None:
        """The number of its block."""
        return self.block.number if self.block else None


@dataclass(frozen=True)
class Size:
    """Rank and alpha of one adapted layer. Readers take alpha / rank for the scale, so a rank-stabilized one has its
    alpha told larger by sqrt(rank)."""

    rank: int
    alpha: float


@dataclass(frozen=True)
class Seat:
    """A target that gets an adapter, and how large and how fast that is."""

    target: Target
    size: Size | None = None
    """None for kinds without a rank, and for norms."""

    rate: float = 1.0
    """The factor of its part's learning rate."""

    @property
    def sized(self) -> Size:
        """The size, where the kind has one."""
        assert self.size is not None
        return self.size


def seats(targets: Iterable[Target], config: Kind) -> list[Seat]:
    """The targets that `config` adapts, each with its size and rate, in the order of the model.

    As sd-scripts does: `conv_rank` opens the ResNet blocks and samplers; there, linear and 1x1 layers take `rank`, and
    only kernels larger than 1x1 take `conv_rank`. Raises ConfigError when blocks or rules do not fit these targets.
    """
    open_to = [target for target in targets if config.train_norm or not target.is_norm]
    candidates = [target for target in open_to if getattr(config.targets, target.part)]
    factors = _factors(candidates, config)
    found = [seat for target in candidates if (seat := _seat(target, config, factors))]
    _every_rule_counts(candidates, found, config)
    if config.train_norm and not any(target.is_norm for target in candidates):
        what = "norms are to be trained, and this base has none that can be"
        raise ConfigError(Problem("E-CFG-135", what, "adapter.train_norm", "delete adapter.train_norm"))
    denoiser = [target for target in candidates if target.part == "unet"]
    if (
        config.opens_convolutions
        and any(target.block for target in denoiser)
        and not any(each.large for each in denoiser)
    ):
        what = "convolutions are to be adapted, and this base has none"
        fix = 'delete adapter.conv_rank or adapter.conv; targets.layers = "full" opens what is around the blocks'
        raise ConfigError(Problem("E-CFG-136", what, "adapter", fix))
    return found


def opened(target: Target, config: Kind) -> bool:
    """Whether the preset of layers holds this one; a norm goes with the layers around it."""
    if target.is_norm:
        return target.default or config.layers == "full"
    match config.layers:
        case "attention":
            return target.default and target.role == "attention"
        case "attention-mlp":
            return target.default
        case "full":
            return True


def _seat(target: Target, config: Kind, factors: Mapping[int, float]) -> Seat | None:
    rules = [rule for rule in config.rules if rule.fits(target.name, target.role, target.number)]
    skip = _last(rules, lambda rule: rule.skip)
    if skip or (skip is None and not opened(target, config)):
        return None
    given = _last(rules, lambda rule: rule.rate)
    rate = given if given is not None else 1.0 if target.block is None else factors[target.block.number]
    size = _size(target, config, rules) if isinstance(config, Ranked) and not target.is_norm else None
    return None if rate == 0 or (size and not size.rank) else Seat(target, size, rate)


def _size(target: Target, config: Ranked, rules: Sequence[Rule]) -> Size:
    """Rank and alpha: by the last rule that gives them, else by block, else the same everywhere."""
    ranks, alphas, rank, alpha = None, None, config.rank, config.alpha
    blocks = config.blocks
    if target.large and config.opens_convolutions:
        ranks, alphas = (blocks.conv_ranks, blocks.conv_alphas) if blocks else (None, None)
        rank, alpha = config.conv_rank or config.rank, config.conv_alpha
    elif blocks:
        ranks, alphas = blocks.ranks, blocks.alphas
    if target.block is not None:
        rank = ranks[target.block.number] if ranks else rank
        alpha = alphas[target.block.number] if alphas else alpha
    by_rule, alpha_by_rule = _last(rules, lambda rule: rule.rank), _last(rules, lambda rule: rule.alpha)
    rank = by_rule if by_rule is not None else rank
    alpha = alpha_by_rule if alpha_by_rule is not None else alpha
    return Size(rank, alpha * (sqrt(rank) if config.rank_stabilized else 1.0) or float(rank))


def _last(rules: Sequence[Rule], said: Callable[[Rule], Said | None]) -> Said | None:
    return next((value for rule in reversed(rules) if (value := said(rule)) is not None), None)


def _factors(targets: Sequence[Target], config: Kind) -> dict[int, float]:
    """The factor of the learning rate by the block's number; every list checked against the base."""
    counted = next((target.block.counted for target in targets if target.block), None)
    blocks = config.blocks
    if blocks is None:
        return {target.block.number: 1.0 for target in targets if target.block}
    if counted is None:
        what = "the base has no numbered blocks, or its denoiser is not trained"
        raise ConfigError(Problem("E-CFG-130", what, "adapter.blocks", "delete adapter.blocks"))
    problems, found = [], {}
    stages: tuple[Stage, ...] = ("down", "mid", "up")
    for stage in stages:
        try:
            values = spread(getattr(blocks, f"{stage}_rates"), getattr(counted, stage))
        except ValueError as error:
            where, count = f"adapter.blocks.{stage}_rates", getattr(counted, stage)
            problems.append(Problem("E-CFG-130", str(error), where, f"give {count} factors, one number or a preset"))
            continue
        for at, value in enumerate(values):
            found[counted.number(stage, at)] = value if value > blocks.zero_threshold else 0.0
    for name in ("ranks", "alphas", "conv_ranks", "conv_alphas"):
        listed = getattr(blocks, name)
        if listed is not None and len(listed) != counted.total:
            what = f"the base has {counted.total} blocks, but the list has {len(listed)}"
            fix = f"give {counted.total} values; `impasto layers` shows the blocks"
            problems.append(Problem("E-CFG-130", what, f"adapter.blocks.{name}", fix))
    if problems:
        raise ConfigError(*problems)
    return found


def _every_rule_counts(targets: Sequence[Target], found: Sequence[Seat], config: Kind) -> None:
    """Raise ConfigError for rules that no layer heeds: a word misspelt there would change nothing, silently."""
    seated = {seat.target.name for seat in found}
    problems = []
    for at, rule in enumerate(config.rules):
        fitting = [target for target in targets if rule.fits(target.name, target.role, target.number)]
        where = f"adapter.rules.{at}"
        if not fitting:
            what = f"no layer has {rule}"
            problems.append(Problem("E-CFG-131", what, where, _nearest(rule, targets)))
        elif not rule.skip and rule.rate != 0 and not any(target.name in seated for target in fitting):
            what = f"{rule} holds for {len(fitting)} layers, and none of them gets an adapter"
            fix = 'set targets.layers = "full", or skip = false in the rule'
            problems.append(Problem("E-CFG-132", what, where, fix))
    if problems:
        raise ConfigError(*problems)


def _nearest(rule: Rule, targets: Sequence[Target]) -> str:
    """Names that may have been meant."""
    from difflib import SequenceMatcher

    wanted = rule.match or ""

    def likeness(name: str) -> int:
        """How long the pieces are that both have."""
        pieces = SequenceMatcher(None, wanted, name, autojunk=False).get_matching_blocks()
        return sum(piece.size**2 for piece in pieces)

    near = sorted((target.name for target in targets if rule.role in (None, target.role)), key=likeness, reverse=True)
    if wanted and near:
        return f"near it are {', '.join(near[:2])}; `impasto layers` shows them all"
    return "`impasto layers` shows the names, roles and blocks"

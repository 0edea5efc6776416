"""Which adapter is trained, how large, and on which layers."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from impasto.adapters.rules import Blocks, Layers, Rule, Start, Targets
from impasto.schema import NaturalFloat, PositiveFloat, PositiveInt, Section, Share, default_kind

SIZES = ("ranks", "alphas", "conv_ranks", "conv_alphas")
Dropped = Annotated[float, Field(ge=0.0, lt=1.0)]


class Kind(Section):
    """What all kinds have."""

    kind: str

    targets: Targets = Targets()
    """Which parts of the base get an adapter, and which kinds of layers in them."""

    blocks: Blocks | None = None
    """Sizes and rates by the denoiser's blocks. Unset: all blocks alike."""

    rules: Annotated[tuple[Rule, ...], Field(strict=False)] = ()
    """What is different for some layers, chosen by name, role or block; the last word counts."""

    train_norm: bool = False
    """Also train the weights and biases of the norms (GroupNorm, LayerNorm) beside the adapted layers of the denoiser,
    as a full difference. It costs next to nothing and shifts colours and contrast quickly; not every program reads such
    files."""

    start: Start | None = None
    """Begin with the numbers of an adapter file. Unset: afresh."""

    @property
    def opens_convolutions(self) -> bool:
        """Whether the settings ask for the ResNet blocks and samplers, apart from `targets.layers`."""
        return False

    @property
    def layers(self) -> Layers:
        """Which kinds of layers are adapted."""
        return self.targets.layers or ("full" if self.opens_convolutions else "attention-mlp")

    @model_validator(mode="after")
    def _one_word_on_convolutions(self) -> Self:
        if self.opens_convolutions and self.targets.layers not in (None, "full"):
            raise ValueError(
                f"targets.layers = {self.targets.layers!r} leaves out the convolutions, and others of these settings "
                "ask for them; delete one"
            )
        return self

    @model_validator(mode="after")
    def _sizes_of_a_file(self) -> Self:
        if self.start and self.start.sizes == "file" and not isinstance(self, _LowRank | DyLora):
            raise ValueError(f"start.sizes = 'file' is for LoRA and its kin; give the sizes of kind {self.kind} here")
        return self

    @model_validator(mode="after")
    def _sizes_where_there_are_any(self) -> Self:
        if isinstance(self, Ranked):
            return self
        by_block = [name for name in SIZES if self.blocks and getattr(self.blocks, name) is not None]
        if by_block or any(rule.rank is not None or rule.alpha is not None for rule in self.rules):
            where = f"blocks.{by_block[0]}" if by_block else "a rule"
            raise ValueError(f"an adapter of kind {self.kind} has no rank and no alpha, and {where} gives one")
        return self


class Ranked(Kind):
    """Kinds whose size is a rank."""

    rank: PositiveInt = 4
    """How much the adapter can hold. 4 to 16 suits one character or style; more learns finer detail, makes a larger
    file and over-trains sooner."""

    alpha: NaturalFloat = 1.0
    """Strength: the adapter's output is scaled by alpha / rank, so a larger alpha acts like a larger learning rate.
    0 means the same as the rank (scale 1)."""

    conv_rank: PositiveInt | None = None
    """Also adapt the 3x3 convolutions and the layers of the ResNet blocks, the 3x3 ones with this rank (LoCon).
    Unset: they are left alone."""

    conv_alpha: NaturalFloat = 1.0
    """Alpha of the 3x3 convolutions; 0 means the same as their rank."""

    rank_stabilized: bool = False
    """Scale by alpha / sqrt(rank) in place of alpha / rank (Kalajdzievski 2023), so that large ranks are not held back.
    Files then tell an alpha that says the same to every reader."""

    @property
    def opens_convolutions(self) -> bool:
        """Whether the settings ask for the ResNet blocks and samplers, apart from `targets.layers`."""
        return self.conv_rank is not None or (self.blocks is not None and self.blocks.conv_ranks is not None)

    @property
    def ranks(self) -> list[tuple[str, int]]:
        """Every rank that is asked for somewhere, with the name of its setting."""
        found = [("rank", self.rank)] + ([("conv_rank", self.conv_rank)] if self.conv_rank is not None else [])
        for name in ("ranks", "conv_ranks") if self.blocks else ():
            found += [(f"blocks.{name}", each) for each in getattr(self.blocks, name) or ()]
        return found + [(f"rules.{at}.rank", rule.rank) for at, rule in enumerate(self.rules) if rule.rank is not None]


class Bounded(Kind):
    """Kinds that add something to the weight whose length can be kept small: all but rotations."""

    max_norm: PositiveFloat | None = None
    """After each step, a layer whose change of the weight is longer than this is shortened to it (scale_weight_norms):
    1 is usual. It keeps adapters mixable and delays burning. Unset: no limit."""

    @model_validator(mode="after")
    def _a_sum_is_bounded(self) -> Self:
        if self.max_norm is not None and getattr(self, "decompose", False):
            raise ValueError("max_norm and decompose do not go together: the length is learnt there; delete one")
        return self


class _LowRank(Ranked):
    dropout: Dropped = 0.0
    """Share of the values inside the adapter (after `down`) set to zero in a step. A little (0.1)
    delays over-training."""

    rank_dropout: Dropped = 0.0
    """Share of the rank's rows switched off for each example in a step."""

    module_dropout: Share = 0.0
    """Chance that a layer's whole adapter sits out a step."""


class _Product(Ranked):
    rank_dropout: Dropped = 0.0
    """Share of the layer's outputs that the adapter leaves alone, for each example in a step."""

    module_dropout: Share = 0.0
    """Chance that a layer's whole adapter sits out a step."""


class _Whole(Kind):
    conv: bool = False
    """Also adapt the 3x3 convolutions and the layers of the ResNet blocks."""

    module_dropout: Share = 0.0
    """Chance that a layer's whole adapter sits out a step."""

    @property
    def opens_convolutions(self) -> bool:
        """Whether the settings ask for the ResNet blocks and samplers, apart from `targets.layers`."""
        return self.conv


class Lora(_LowRank, Bounded):
    """Low-rank adaptation (Hu et al. 2021): each adapted layer gets alpha / rank * up(down(x)) added."""

    kind: Literal["lora"] = "lora"

    decompose: bool = False
    """Learn the length of each row of the weight apart from its direction (DoRA, Liu et al. 2024). Steps take longer;
    small ranks hold more."""


class LoraFa(_LowRank, Bounded):
    """LoRA with a frozen `down` (Zhang et al. 2023): half the numbers to train, in files like any LoRA."""

    kind: Literal["lora-fa"] = "lora-fa"


class DyLora(Ranked, Bounded):
    """LoRA that can be cut to a smaller rank (Valipour et al. 2023): each visit trains the first so many rows alone."""

    kind: Literal["dylora"] = "dylora"

    unit: PositiveInt = 1
    """The ranks it can be cut to are the multiples of this."""

    export_ranks: Annotated[tuple[PositiveInt, ...], Field(strict=False)] = ()
    """Ranks to cut the trained adapter to: each is a file of its own beside the whole one, as in [2, 4, 8]. The run
    then also measures what each rank is worth. Empty: the whole file only."""

    @model_validator(mode="after")
    def _ranks_there_are(self) -> DyLora:
        most = max(rank for _, rank in self.ranks)
        for rank in self.export_ranks:
            if rank % self.unit:
                raise ValueError(f"export_ranks must be multiples of unit, and {rank} is none of {self.unit}")
            if rank > most and not (self.start and self.start.sizes == "file"):
                raise ValueError(f"export_ranks has {rank}, and no layer has more than rank {most}")
        return self

    @model_validator(mode="after")
    def _whole_units(self) -> DyLora:
        for name, rank in self.ranks:
            if rank % self.unit:
                raise ValueError(f"{name} must be a multiple of unit, and {rank} is none of {self.unit}")
        return self


class Loha(_Product, Bounded):
    """Low-rank Hadamard product (Hyeon-Woo et al. 2022): two low-rank weights, multiplied number by number, so that a
    small file reaches ranks up to rank * rank."""

    kind: Literal["loha"] = "loha"

    decompose: bool = False
    """Learn the length of each row of the weight apart from its direction (DoRA, Liu et al. 2024)."""


class Lokr(_Product, Bounded):
    """Low-rank Kronecker product (Yeh et al. 2024, LyCORIS): a small weight times a low-rank one. Its
    files are the smallest."""

    kind: Literal["lokr"] = "lokr"

    factor: PositiveInt | None = None
    """The side of the small weight; larger ones make smaller files up to a point. Unset: sides as equal as possible."""

    decompose_both: bool = False
    """Make the small weight low-rank too, where that saves numbers."""

    full_matrix: bool = False
    """Keep both weights whole: the rank no longer matters, and alpha counts as the rank."""

    decompose: bool = False
    """Learn the length of each row of the weight apart from its direction (DoRA, Liu et al. 2024)."""


class Glora(_Product, Bounded):
    """Generalized LoRA (Chavan et al. 2023): W * A + B added to each weight W, with A and B of low rank."""

    kind: Literal["glora"] = "glora"


class Ia3(Bounded):
    """(IA)3 (Liu et al. 2022): one factor for each key and value of attention and each hidden value of the MLP. Tiny;
    for broad changes of style. It wants a learning rate ten times that of LoRA or more."""

    kind: Literal["ia3"] = "ia3"

    module_dropout: Share = 0.0
    """Chance that a layer's whole adapter sits out a step."""


class Full(_Whole, Bounded):
    """The full difference to each weight and bias: all that fine-tuning can do, with its memory and its file size."""

    kind: Literal["full"] = "full"


class _Rotation(_Whole):
    constraint: NaturalFloat = 0.0
    """The rotation's generator is kept shorter than this times the layer's outputs, as in COFT. 0: as long as it
    likes. Where it is used, 1e-5 to 1e-3 is usual."""

    rescaled: bool = False
    """Also learn a factor for each output."""


class Oft(_Rotation):
    """Orthogonal fine-tuning (Qiu et al. 2023): blocks of a layer's outputs are rotated, which keeps their angles."""

    kind: Literal["oft"] = "oft"

    block_size: PositiveInt = 4
    """Outputs that are rotated together, at most: larger blocks learn more and make a larger file."""


class Boft(_Rotation):
    """Butterfly orthogonal fine-tuning (Liu et al. 2024): several rounds of small rotations that mix all outputs."""

    kind: Literal["boft"] = "boft"

    block_size: PositiveInt = 16
    """Outputs that are rotated together, at most. A layer whose outputs have no such form takes the smallest block
    that they do have."""


Adapter = Annotated[
    Annotated[
        Lora | LoraFa | DyLora | Loha | Lokr | Glora | Ia3 | Full | Oft | Boft,
        Field(discriminator="kind"),
    ],
    default_kind("lora"),
]
"""Any adapter kind. `kind` chooses; the other fields belong to the chosen kind."""

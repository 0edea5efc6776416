"""Settings made at random from the sections themselves, and texts to bend."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from impasto.config import RunConfig
from impasto.schema import Section
from impasto.settings import fields
from impasto.settings.fields import Choice, Either, Flag, Kinds, Listing, Number, Options, Pair, Shape, Table, Text

Values = st.SearchStrategy[Any]

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def fitting(shape: Shape) -> Values:
    """Values that a setting of this shape takes."""
    match shape:
        case Flag():
            return st.booleans()
        case Number(whole, above, least, below, most, step):
            low = least if least is not None else above
            high = most if most is not None else below
            if whole:
                lowest = int(low or 0) + (least is None)
                by = step or 1
                highest = (int(high) - (most is None)) // by if high is not None else None
                return st.integers(-(-lowest // by), highest).map(lambda times: times * by)
            return st.floats(low, high, exclude_min=least is None, exclude_max=most is None, allow_nan=False)
        case Text(path=True):
            return st.sampled_from(["/data/pictures", "/data/ä ö", "/data/it's"])
        case Text(pattern=str(pattern), longest=longest):
            return st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) <= (longest or 100))
        case Text(_, _, shortest, longest):
            return st.text(st.characters(exclude_categories=["Cs"]), min_size=shortest, max_size=min(longest or 12, 12))
        case Choice(values):
            return st.sampled_from(values)
        case Pair(items):
            return st.tuples(*map(fitting, items)).map(list)
        case Listing(item, shortest):
            return st.lists(fitting(item), min_size=shortest, max_size=3)
        case Table(section):
            return tables(section)
        case Kinds(sections):
            return st.one_of(*(tables(section, kind) for kind, section in sections))
        case Options():
            return st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.integers(-9, 9), max_size=3)
        case Either(options):
            return st.one_of(*map(fitting, options))
        case Options():
            return st.dictionaries(
                st.sampled_from(["weight_decay", "eps", "foreach"]), st.sampled_from([0.5, 1, True, "x"])
            )
        case _:
            return WORDS


def tables(section: type[Section], kind: str | None = None) -> st.SearchStrategy[dict[str, Any]]:
    """A section with any of its settings left out."""
    settings = {name: each for name, each in fields.settings(section).items() if name != "kind"}
    required = {name: fitting(each.shape) for name, each in settings.items() if each.required}
    if kind:
        required["kind"] = st.just(kind)
    optional = {name: fitting(each.shape) for name, each in settings.items() if not each.required}
    return st.fixed_dictionaries(required, optional=optional)


SECTIONS = {name: fitting(each.shape) for name, each in fields.settings(RunConfig).items()}


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Files of settings with some of the sections. Cross-field rules may still refuse them."""
    names = draw(st.lists(st.sampled_from(list(SECTIONS)), min_size=1, max_size=3, unique=True))
    return {name: draw(SECTIONS[name]) for name in names}


CONFIGS = configs()

NUMBERS = st.one_of(st.integers(-(10**30), 10**30), st.floats(), st.sampled_from([0, -1, 10**4000, 1e300, 5e-324]))
JUNK = st.recursive(
    st.one_of(st.booleans(), NUMBERS, WORDS, st.sampled_from(["1e-4x", "true", "no", "8", "$(id)", "${HOME}"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=5,
)
"""What people and programs put where something else belongs."""


@st.composite
def bent(draw: st.DrawFn) -> dict[str, Any]:
    """A file of settings with one to three places spoilt."""
    values = draw(CONFIGS)
    for _ in range(draw(st.integers(1, 3))):
        inside: Any = values
        while True:
            keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            deeper = isinstance(inside[key], dict | list) and inside[key]
            if deeper and draw(st.integers(0, 3)):
                inside = inside[key]
                continue
            if isinstance(inside, dict) and draw(st.booleans()):
                inside[draw(WORDS)] = inside.pop(key)
            else:
                inside[key] = draw(JUNK)
            break
    return values


def mutations(text: bytes) -> st.SearchStrategy[bytes]:
    """The text with a few bytes changed, lost, doubled or put in."""
    edits = st.tuples(
        st.integers(0, len(text)),
        st.integers(0, 6),
        st.one_of(
            st.binary(max_size=4), st.sampled_from([b"[", b"]", b'"', b"'", b"=", b"\n", b"#", b".", b"{", b"\\"])
        ),
    )

    def apply(changes: list[tuple[int, int, bytes]]) -> bytes:
        result = text
        for at, lost, new in changes:
            result = result[:at] + new + result[at + lost :]
        return result

    return st.lists(edits, min_size=1, max_size=4).map(apply)


KOHYA = """\
pretrained_model_name_or_path = "/models/sd15.safetensors"
train_data_dir = "/data/img"
output_name = "anna"
network_module = "networks.lora"
network_dim = 16
network_alpha = 8
learning_rate = 1e-4
max_train_steps = 1600
mixed_precision = "bf16"
"""

KOHYA_DATASET = """\
[general]
shuffle_caption = true
caption_extension = ".txt"

[[datasets]]
resolution = 512
batch_size = 2

[[datasets.subsets]]
image_dir = "/data/img"
num_repeats = 10
"""

KOHYA_JSON = '{"LoRA_type": "Standard", "pretrained_model_name_or_path": "x", "network_dim": 8, "epoch": 10}'
ONE_TRAINER = '{"training_method": "LORA", "base_model_name": "x", "lora_rank": 16, "concepts": []}'
AI_TOOLKIT = """\
job: extension
config:
  name: anna
  process:
    - type: sd_trainer
      trigger_word: anna
"""

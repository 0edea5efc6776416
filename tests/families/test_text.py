"""Captions to tokens, windows, weights and states."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from impasto import families
from impasto.data.batch import stacked
from impasto.errors import ConfigError
from impasto.families import detect, text, tiny
from impasto.families.config import Model
from impasto.families.emphasis import parse
from impasto.families.sd import StableDiffusion

EMPHASIS: dict[str, list[tuple[str, float]]] = {
    "two (((boats:1.3)) [near] a (pier:0.5), fog, (((gulls))).": [
        ("two ", 1.0), ("boats", 1.573), (" ", 1.1), ("near", 1.0), (" a ", 1.1), ("pier", 0.55), (", fog, ", 1.1),
        ("gulls", 1.4641), (".", 1.1),
    ],
    "one ((red:1.2)) [tiny] cup (of tea:0.4), steam, ((hot)).": [
        ("one ", 1.0), ("red", 1.32), (" ", 1.0), ("tiny", 0.909091), (" cup ", 1.0), ("of tea", 0.4),
        (", steam, ", 1.0), ("hot", 1.21), (".", 1.0),
    ],
    "(a:1.2, b:0.8)": [("a:1.2, b", 0.8)],
    "(unbalanced": [("unbalanced", 1.1)],
    "[open": [("open", 0.909091)],
    "a:1.2)": [("a:1.2)", 1.0)],
    "a) b]": [("a) b]", 1.0)],
    "[x]": [("x", 0.909091)],
    r"\(lit\)": [("(lit)", 1.0)],
    r"(\[a\]\\)": [("[a]\\", 1.1)],
    "(a)(b)": [("ab", 1.1)],
    "(a:b)": [("a:b", 1.1)],
    "(a:.5)": [("a", 0.5)],
    "": [("", 1.0)],
    "()": [("", 1.0)],
}  # fmt: skip


@pytest.mark.parametrize(("caption", "pieces"), EMPHASIS.items(), ids=EMPHASIS)
def test_brackets_are_read_as_recorded(caption: str, pieces: list[tuple[str, float]]) -> None:
    found = parse(caption)
    assert [each for each, _ in found] == [each for each, _ in pieces]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in pieces], rel=1e-5)


class Words:
    """A tokenizer to whom every letter is a token."""

    bos_token_id, eos_token_id = 1000, 1001

    def __init__(self, pad: int) -> None:
        self.pad_token_id = pad

    def __call__(self, text: str, **_: Any) -> Any:
        return type("Encoding", (), {"input_ids": [ord(letter) for letter in text]})


def drawn(window: list[int]) -> str:
    """[1000, 97, 97, 1001, 0, ...] -> `B x2 E P73`."""
    names = {1000: "B", 1001: "E", 0: "P"}
    runs = [(name, len(list(group))) for name, group in groupby(names.get(id, " x") for id in window)]
    return "".join(f"{name.strip()}{count if count > 1 or name == ' x' else ''} " for name, count in runs).strip()


GOLDEN = {
    10: (["B x10 E66", "B E76", "B E76"], ["B x10 E P65", "B E P75", "B E P75"]),
    74: (["B x74 E2", "B E76", "B E76"], ["B x74 E P", "B E P75", "B E P75"]),
    75: (["B x75 E", "B E76", "B E76"], ["B x75 E", "B E P75", "B E P75"]),
    76: (["B x75 E", "B x1 E75", "B E76"], ["B x75 E", "B x1 E P74", "B E P75"]),
    100: (["B x75 E", "B x25 E51", "B E76"], ["B x75 E", "B x25 E P50", "B E P75"]),
    150: (["B x75 E", "B x75 E", "B E76"], ["B x75 E", "B x75 E", "B E P75"]),
    160: (["B x75 E", "B x75 E", "B x10 E66"], ["B x75 E", "B x75 E", "B x10 E P65"]),
    225: (["B x75 E"] * 3, ["B x75 E"] * 3),
    300: (["B x75 E"] * 3, ["B x75 E"] * 3),
}


@pytest.mark.parametrize("words", GOLDEN)
@pytest.mark.parametrize("pad", [1001, 0], ids=["padded with end marks", "padded with 0"])
def test_long_captions_are_framed_in_windows_as_recorded(words: int, pad: int) -> None:
    (windows,) = text.tokenize(Words(pad), ["x" * words], 225).tolist()
    assert [drawn(window) for window in windows] == GOLDEN[words][0 if pad else 1]


@pytest.fixture(scope="module")
def loaded(tiny_base: Path) -> Any:
    def load(**model: Any) -> StableDiffusion:
        settings = Model(path=str(tiny_base), **model)
        made = families.load(detect.look(settings), settings, device=torch.device("cpu"), dtype=torch.float32)
        assert isinstance(made, StableDiffusion)
        return made

    return load


@torch.no_grad()
def test_windows_become_75_states_each_and_two_marks(loaded: Any) -> None:
    family = loaded(max_tokens=225)
    long = family.encode(family.tokenize(["x" * 160]))["states"]
    assert long.shape == (1, 227, 16)
    ids = family.tokenize(["x" * 160])["ids"][0]
    apart = [family.text_encoder(window[None]).last_hidden_state[0] for window in ids]
    assert_close(long[0, 0], apart[0][0])
    assert_close(long[0, 76:151], apart[1][1:76])
    assert_close(long[0, 226], apart[2][76])


@torch.no_grad()
def test_clip_skip_takes_an_earlier_layer_through_the_last_norm(loaded: Any) -> None:
    family = loaded(clip_skip=2)
    cond = family.tokenize(["a thing"])
    hidden = family.text_encoder(cond["ids"][0], output_hidden_states=True).hidden_states
    inner = getattr(family.text_encoder, "text_model", family.text_encoder)
    assert_close(family.encode(cond)["states"], inner.final_layer_norm(hidden[-2]))
    assert not torch.equal(family.encode(cond)["states"], loaded().encode(cond)["states"])


def test_a_layer_that_is_not_there_is_refused(loaded: Any) -> None:
    with pytest.raises(ConfigError, match="2 layers"):
        loaded(clip_skip=3)


@torch.no_grad()
def test_emphasis_multiplies_the_states_of_its_tokens(loaded: Any) -> None:
    plain, family = loaded(), loaded(emphasis="plain")
    cond = family.tokenize(["ab (cd:1.5) e"])
    tokens = tiny.byte_tokenizer()("ab cd e", add_special_tokens=False).input_ids
    assert cond["ids"][0, 0, 1 : 1 + len(tokens)].tolist() == tokens
    factors = torch.ones(77)
    factors[3:5] = 1.5
    assert_close(cond["emphasis"], factors[None])
    before = plain.encode(plain.tokenize(["ab cd e"]))["states"]
    assert_close(family.encode(cond)["states"], before * factors[None, :, None])


@torch.no_grad()
def test_emphasis_by_the_mean_keeps_the_mean_of_each_caption(loaded: Any) -> None:
    off, plain, mean = families = [loaded(emphasis=rule) for rule in ("off", "plain", "mean")]
    for family in families:
        encoder = getattr(family.text_encoder, "text_model", family.text_encoder)
        encoder.final_layer_norm.bias += 0.3
    before = off.encode(off.tokenize(["a b c", "d e"]))["states"]
    weighted, kept = (each.encode(each.tokenize(["a (b:1.4) c", "[d] e"]))["states"] for each in (plain, mean))
    assert_close(kept.mean((1, 2)), before.mean((1, 2)))
    ratio = (kept / weighted).flatten(1)
    assert_close(ratio, ratio[:, :1].expand_as(ratio))
    assert not torch.allclose(ratio, torch.ones(1))


@torch.no_grad()
def test_emphasis_by_the_mean_leaves_a_mean_of_nothing_alone(loaded: Any) -> None:
    plain, mean = (loaded(emphasis=rule) for rule in ("plain", "mean"))
    weighted, kept = (each.encode(each.tokenize(["a (b:1.4) c"]))["states"] for each in (plain, mean))
    assert_close(kept, weighted)


def test_emphasis_holds_when_the_text_encoder_learns(loaded: Any) -> None:
    family = loaded(emphasis="plain")
    cond = family.tokenize(["a (b:0.0)"])
    token = family.text_encoder.get_input_embeddings().weight.requires_grad_()
    family.encode(cond)["states"][0, 2].square().sum().backward()
    assert float(token.grad.abs().sum()) == 0.0
    family.encode(family.tokenize(["a (b:2.0)"]))["states"][0, 2].square().sum().backward()
    assert float(token.grad.abs().sum()) > 0.0
    token.requires_grad_(False)


@torch.no_grad()
def test_brackets_are_text_unless_emphasis_is_asked_for(loaded: Any) -> None:
    family = loaded()
    assert "emphasis" not in family.tokenize(["(a:1.3)"])
    assert not torch.equal(family.tokenize(["(a:1.3)"])["ids"], family.tokenize(["a"])["ids"])


@torch.no_grad()
@pytest.mark.parametrize("max_tokens", [75, 225])
def test_without_padding_a_caption_counts_alike_alone_and_in_company(loaded: Any, max_tokens: int) -> None:
    family = loaded(token_padding=False, max_tokens=max_tokens)
    words = ["ab", "a much longer caption", "x" * 200]
    generator = torch.Generator().manual_seed(0)
    x, t = torch.randn(3, 4, 8, 8, generator=generator), torch.tensor([10, 500, 900])
    together = family.tokenize(words)
    lengths = [4, 20, min(202, max_tokens + 2)]
    assert together["mask"].sum(1).tolist() == lengths
    assert family.encode(together)["states"].shape[1] == lengths[-1]
    company = family.predict(x, t, together)
    for at, word in enumerate(words):
        cond = family.encode(family.tokenize([word]))
        assert cond["states"].shape[1] == lengths[at]
        assert_close(family.predict(x[at : at + 1], t[at : at + 1], cond), company[at : at + 1], rtol=1e-4, atol=1e-5)
    singles = [{name: value[0] for name, value in family.encode(family.tokenize([word])).items()} for word in words]
    assert_close(family.predict(x, t, stacked(singles)), company, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_padding_is_seen_unless_it_is_off(loaded: Any) -> None:
    x, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    with_padding, without = (loaded(token_padding=padding) for padding in (True, False))
    assert with_padding.encode(with_padding.tokenize(["ab"]))["states"].shape[1] == 77
    seen, unseen = (family.predict(x, t, family.tokenize(["ab"])) for family in (with_padding, without))
    assert not torch.allclose(seen, unseen)

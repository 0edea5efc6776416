"""The files of each kind mean to LyCORIS and to PEFT what they mean here."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from impasto import adapters
from impasto.adapters.adapter import AdapterLayer
from impasto.adapters.config import Adapter as Config
from impasto.adapters.config import Boft, DyLora, Full, Glora, Ia3, Loha, Lokr, Lora, LoraFa, Oft
from impasto.adapters.lokr import factorization
from impasto.adapters.targets import Target

LAYERS = {
    "linear": lambda: nn.Linear(12, 40),
    "conv 1x1": lambda: nn.Conv2d(12, 40, 1),
    "conv 3x3": lambda: nn.Conv2d(12, 40, 3, padding=1),
}
SIZE: dict[str, Any] = {"rank": 3, "alpha": 1.5, "conv_rank": 3, "conv_alpha": 1.5}
KINDS: dict[str, Config] = {
    "lora": Lora(**SIZE),
    "rank-stabilized": Lora(**SIZE, rank_stabilized=True),
    "dora": Lora(**SIZE, decompose=True),
    "lora-fa": LoraFa(**SIZE),
    "dylora": DyLora(**SIZE),
    "loha": Loha(**SIZE),
    "loha, dora": Loha(**SIZE, decompose=True),
    "lokr": Lokr(rank=2, conv_rank=2),
    "lokr, both": Lokr(rank=1, conv_rank=1, decompose_both=True, factor=5),
    "lokr, whole": Lokr(full_matrix=True, alpha=3.0),
    "lokr, dora": Lokr(rank=2, conv_rank=2, decompose=True),
    "glora": Glora(**SIZE),
    "full": Full(),
    "oft": Oft(block_size=5),
    "oft, limited": Oft(block_size=5, constraint=0.01),
    "oft, rescaled": Oft(block_size=5, rescaled=True),
    "boft": Boft(block_size=10),
    "boft, limited": Boft(block_size=10, constraint=0.01),
    "boft, rescaled": Boft(block_size=10, rescaled=True),
    "ia3": Ia3(),
}


@torch.no_grad()
def layer(base: nn.Module, config: Config, path: str = "attn1.to_k") -> AdapterLayer:
    """A layer with random weights."""
    target = Target("lora_unet_layer", path, "unet", "attention", base, default=True)
    ((_, made),) = adapters.build(config, [target], seed=1).items()
    generator = torch.Generator().manual_seed(3)
    for parameter in made.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return made


def frozen(name: str) -> nn.Module:
    torch.manual_seed(0)
    return LAYERS[name]().requires_grad_(False)


def alike(ours: Tensor | None, theirs: Tensor | None) -> None:
    assert ours is not None
    assert theirs is not None
    torch.testing.assert_close(ours.detach(), theirs.detach().view(ours.shape), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kind", KINDS)
def test_lycoris_merges_a_file_to_the_same_weight(kind: str, name: str) -> None:
    if kind == "ia3" and name != "linear":
        pytest.skip("(IA)3 is for linear layers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lycoris.modules import get_module, make_module
    base = frozen(name)
    ours = layer(base, KINDS[kind])
    held = {f"layer.{key}": value.detach().clone() for key, value in ours.held().items()}
    found, tensors = get_module(held, "layer")
    if kind == "ia3":
        tensors = tensors[:1]  # its own reader stumbles over `on_input`
    theirs = make_module(found, tensors, "layer", base)
    if kind == "full":
        alike(ours.weight(base), base.weight + held["layer.diff"])
        alike(ours.bias(base), base.bias + held["layer.diff_b"])
        return
    if kind.startswith(("loha", "lokr")):  # its merge scales these twice, its forward once
        merged = base.weight + theirs.get_weight(theirs.shape)
        alike(ours.weight(base), theirs.apply_weight_decompose(merged) if "dora" in kind else merged)
    else:
        alike(ours.weight(base), theirs.get_merged_weight()[0])
    assert (ours.weight(base) - base.weight).abs().max() > 0.01


def test_lycoris_scales_inputs_as_we_do() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lycoris.modules.ia3 import IA3Module
    base = frozen("linear")
    ours = layer(base, Ia3(), "ff.net.2")
    theirs = IA3Module("layer", base, train_on_input=True)
    theirs.weight.data.copy_(ours.held()["weight"])
    alike(ours.weight(base), theirs.get_merged_weight()[0])


@pytest.mark.parametrize("base", [nn.GroupNorm(4, 12), nn.LayerNorm(12)], ids=["group", "layer"])
def test_lycoris_trains_norms_as_we_do(base: nn.GroupNorm | nn.LayerNorm) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lycoris.modules.norms import NormModule
    torch.manual_seed(0)
    torch.nn.init.normal_(base.weight)
    torch.nn.init.normal_(base.bias)
    ours = layer(base.requires_grad_(False), Lora(train_norm=True))
    theirs = NormModule("layer", base)
    theirs.w_norm.data.copy_(ours.held()["w_norm"])
    theirs.b_norm.data.copy_(ours.held()["b_norm"])
    assert set(theirs.state_dict()) == set(ours.held())
    x = torch.randn(2, 12, 12)
    alike(ours.forward(x, base(x), base), theirs(x))


PEFT: list[tuple[str, str, dict[str, Any]]] = [
    ("lora", "LoraConfig", {}),
    ("rank-stabilized", "LoraConfig", {"use_rslora": True}),
    ("dora", "LoraConfig", {"use_dora": True}),
    ("loha", "LoHaConfig", {}),
    ("lokr", "LoKrConfig", {}),
    ("ia3", "IA3Config", {"feedforward_modules": []}),
]


@pytest.mark.parametrize("name", ["linear", "conv 3x3"])
@pytest.mark.parametrize(("kind", "cls", "more"), PEFT, ids=[kind for kind, _, _ in PEFT])
def test_peft_merges_the_same_numbers_to_the_same_weight(kind: str, cls: str, more: dict[str, Any], name: str) -> None:
    if kind in ("ia3", "lokr", "loha") and name != "linear":
        pytest.skip("PEFT's tensors have other shapes there")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import peft
    config = KINDS[kind]
    base = frozen(name)
    ours = layer(base, config)
    sizes = {} if kind == "ia3" else {"r": config.rank, f"{'lora_' * (cls[:5] == 'LoraC')}alpha": config.alpha}  # type: ignore[union-attr]
    wrapped = nn.ModuleDict({"layer": frozen(name)})
    peft.inject_adapter_in_model(getattr(peft, cls)(target_modules=["layer"], **sizes, **more), wrapped)
    theirs: Any = wrapped["layer"]
    _copy(ours.held(), dict(theirs.named_parameters()))
    theirs.merge()
    alike(ours.weight(base), theirs.get_base_layer().weight)


def _copy(ours: dict[str, Tensor], theirs: dict[str, nn.Parameter]) -> None:
    renamed = {
        "lora_down.weight": "lora_A", "lora_up.weight": "lora_B", "dora_scale": "lora_magnitude_vector",
        "weight": "ia3_l",
    }  # fmt: skip
    for name, value in ours.items():
        if name in ("alpha", "on_input"):
            continue
        wanted = renamed.get(name, name)
        (found,) = (each for key, each in theirs.items() if key.startswith(f"{wanted}."))
        found.data.copy_((1 + value if name == "weight" else value).reshape(found.shape))


@pytest.mark.parametrize("count", [1, 2, 127, 128, 250, 320, 360, 640, 768, 1024, 1280, 2560, 5120, 10240])
@pytest.mark.parametrize("factor", [None, 2, 4, 8, 16, 100])
def test_numbers_are_factored_as_in_lycoris(count: int, factor: int | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lycoris.functional.general import factorization as theirs
    assert factorization(count, factor) == theirs(count, -1 if factor is None else factor)

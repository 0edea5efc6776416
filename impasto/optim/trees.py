"""What a library's optimizer remembers, whatever its form: tensors and plain numbers in dicts and lists.

A plain number is kept in a file as a tensor without dimensions: bool as bool, int as int64, float as float64. So it
comes back to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

_TYPES: dict[type, torch.dtype] = {bool: torch.bool, int: torch.int64, float: torch.float64}


def leaves(tree: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Everything that is a number, by its dotted name."""
    if isinstance(tree, Tensor):
        yield name, tree
    elif type(tree) in _TYPES:
        yield name, torch.tensor(tree, dtype=_TYPES[type(tree)])
    else:
        for key, value in _inside(tree):
            yield from leaves(value, f"{name}.{key}")


def tensors(tree: Any) -> Iterator[Tensor]:
    """The tensors themselves, without the plain numbers."""
    if isinstance(tree, Tensor):
        yield tree
    else:
        for _, value in _inside(tree):
            yield from tensors(value)


def copied(tree: Any) -> Any:
    """Dicts and lists of its own, around the same tensors."""
    return _rebuilt(tree, "", lambda _, value: value)


def filled(tree: Any, name: str, given: Mapping[str, Tensor], device: torch.device) -> Any:
    """The same tree with the numbers of `given`: each tensor on its namesake's device, plain numbers as such.

    `device` is for tensors whose namesake is a plain number.
    """
    return _rebuilt(tree, name, lambda path, value: _like(value, given[path], device) if _is_leaf(value) else value)


def fits(value: Any, given: Tensor) -> bool:
    """Whether a saved tensor can stand for this one; a plain number may have become one of another type, or a tensor
    of one.
    """
    if isinstance(value, Tensor):
        return (value.shape, value.dtype) == (given.shape, given.dtype)
    return given.numel() == 1


def walk(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    """As `leaves`, with plain numbers as they are."""
    if _is_leaf(tree):
        yield name, tree
    else:
        for key, value in _inside(tree):
            yield from walk(value, f"{name}.{key}")


def _is_leaf(tree: Any) -> bool:
    return isinstance(tree, Tensor) or type(tree) in _TYPES


def _inside(tree: Any) -> list[tuple[Any, Any]]:
    if isinstance(tree, dict):
        return list(tree.items())
    return list(enumerate(tree)) if isinstance(tree, list | tuple) else []


def _rebuilt(tree: Any, name: str, leaf: Callable[[str, Any], Any]) -> Any:
    match tree:
        case dict():
            return {key: _rebuilt(value, f"{name}.{key}", leaf) for key, value in tree.items()}
        case list():
            return [_rebuilt(value, f"{name}.{at}", leaf) for at, value in enumerate(tree)]
        case tuple():
            return tuple(_rebuilt(value, f"{name}.{at}", leaf) for at, value in enumerate(tree))
        case _:
            return leaf(name, tree)


def _like(value: Any, given: Tensor, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return torch.empty_like(value).copy_(given)  # laid out as its namesake: products round by that
    plain = given.shape == () and given.dtype in _TYPES.values()
    return given.item() if plain else given.to(device, copy=True)

"""What the ranks found of a step, put together: gradients, and what every example cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from impasto.data.dealing import Turn
from impasto.engine.member import Look, Member
from impasto.errors import UserError

if TYPE_CHECKING:
    from impasto.engine.world import World

COLUMNS = 3
"""Of each example: loss, timestep, weight."""


def joined(
    world: World,
    members: Sequence[Member],
    looks: Mapping[Member, Sequence[Look]],
    failed: Mapping[Member, UserError],
    device: torch.device,
) -> tuple[dict[Member, Tensor], dict[Member, list[Look]], dict[Member, UserError]]:
    """Add up the gradients of all ranks, in place, and return what one process would know of the step: for each member
    its loss and its looks, or why it could not take part.

    It is one collective for all of it. A share of a step weighs as its examples do, so a sum is all there is to do; and
    a sum is the same to the bit on every rank, so all of them go on alike.
    """
    turns = {member: _turn(member) for member in members}
    tables = {member: _table(turns[member], looks.get(member, ()), device) for member in members}
    flags = torch.zeros(len(members), device=device)
    for at, member in enumerate(members):
        if member in failed:
            world.complain(failed[member])
            flags[at] = 1
    gradients = [each for member in members for each in member.flat.gradients()]
    world.add_up([*gradients, *tables.values(), flags])
    lost = {member for member, flag in zip(members, flags.tolist(), strict=True) if flag}
    told = {member: failed.get(member) or world.complaint() for member in lost}
    found = {member: _read(turns[member], tables[member]) for member in members if member not in lost}
    return (
        {member: _loss(each) for member, each in found.items()},
        found,
        {member: error for member, error in told.items() if error is not None},
    )


def _turn(member: Member) -> Turn:
    turn = member.turn()
    assert turn is not None, "with several ranks every member is told its part of a step"
    return turn


def _table(turn: Turn, looks: Sequence[Look], device: torch.device) -> Tensor:
    """[rows of the step, COLUMNS], with what this rank knows."""
    table = torch.zeros(turn.rows, COLUMNS, device=device)
    pieces = {piece.micro.keys: piece for piece in turn.pieces}
    for look in looks:  # in the order of packs
        piece = pieces[look.keys]
        if not piece.idle:
            start = turn.start(piece.at) + piece.first
            known = torch.stack([look.losses.float(), look.t.to(device).float(), look.weight.to(device).float()], dim=1)
            table[start : start + len(look.keys)] = known
    return table


def _read(turn: Turn, table: Tensor) -> list[Look]:
    """The micro-batches of the step, whole again."""
    parts = torch.split(table, [len(keys) for keys in turn.keys])
    return [Look(keys, each[:, 1], each[:, 2], each[:, 0]) for keys, each in zip(turn.keys, parts, strict=True)]


def _loss(looks: Sequence[Look]) -> Tensor:
    """Every example of a step counts alike."""
    rows = sum(len(look.keys) for look in looks)
    return torch.stack([look.losses.mean() * (len(look.keys) / rows) for look in looks]).sum()

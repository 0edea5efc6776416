"""What a server serves: its folders, its queue, its token. Made once, at start; nothing from a browser changes it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Depends, Request

from impasto.errors import Problem
from impasto.web.problems import Refused, absent

Kind = Literal["runs", "data", "models"]

_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}
_LONGEST = 4096
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Root:
    """A folder that the browser may look into, under a short name in place of its path."""

    id: str
    path: Path
    """Absolute, links resolved."""
    kind: Kind


@dataclass(frozen=True)
class Site:
    """All that a server needs to know."""

    token: str
    roots: tuple[Root, ...]
    queue: Path
    """The file of the line."""
    cache: Path
    """Where thumbnails are kept: can be deleted at any time."""
    state: Path
    """Where the app keeps what is not told by folders: which datasets are looked at, their captions' history."""
    hosts: frozenset[str] = field(default=frozenset())
    """Names besides loopback that a request may be addressed to."""
    static: Path = Path(__file__).parent / "static"
    """The built pages."""
    store: Path | None = None
    """The store of encoded pictures, that plans ask and cleaning empties; None: one of its own in the cache."""
    webhook: str = ""
    """Whom to tell when a run has ended; empty: nobody."""
    lanes: tuple[str, ...] = ()
    """The lanes of this machine, for which workers are started when there is work; empty: none are started."""

    def of(self, kind: Kind) -> list[Root]:
        """The roots of a kind, in order."""
        return [root for root in self.roots if root.kind == kind]

    def inside(self, id: str, *kinds: Kind) -> Path:
        """The path that `root/relative` names: absolute, links resolved, inside that root.

        Raises a 404 for everything else, without telling what is outside.
        """
        name, _, relative = id.partition("/")
        root = next((each for each in self.roots if each.id == name and (not kinds or each.kind in kinds)), None)
        if root is None or not is_plain(relative):
            raise absent(id)
        return confined(root.path, relative, id)

    def fresh(self, id: str, *kinds: Kind) -> Path:
        """The path of a file that is to be made, in a folder that is there. Raises a 404 where `inside` would, a 422
        for a name that is none on every system, a 409 if it is taken."""
        above, _, name = id.rpartition("/")
        folder = self.inside(above, *kinds)
        if not folder.is_dir() or not above:
            raise absent(id)
        if not is_plain(name) or not name or name[0] in ".-" or name[-1] in ". " or len(name.encode()) > _LONGEST_NAME:
            raise Refused(422, Problem("E-WEB-006", "this cannot be a file's name", name[:100]))
        if os.path.lexists(folder / name):
            raise Refused(409, Problem("E-WEB-008", "there is something of this name already", name, "choose another"))
        return folder / name

    def id_of(self, path: Path, *kinds: Kind) -> str | None:
        """`root/relative` of a path; None if it is in no root (of these kinds)."""
        whole = path.resolve()
        for root in self.roots:
            if (not kinds or root.kind in kinds) and whole.is_relative_to(root.path):
                relative = whole.relative_to(root.path).as_posix()
                return root.id if relative == "." else f"{root.id}/{relative}"
        return None


def confined(folder: Path, relative: str, id: str) -> Path:
    """What `relative` names in `folder`, with links resolved; a 404 if that is elsewhere, is no file or folder, or
    is not there."""
    try:
        found = (folder / relative).resolve(strict=True)
        kind = found.stat().st_mode
    except (OSError, ValueError, RuntimeError):
        raise absent(id) from None
    if not found.is_relative_to(folder) or not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
        raise absent(id)
    return found


def is_plain(relative: str) -> bool:
    """Whether a relative path is written as we write them: with `/` only, no `..`, no drive, no device."""
    if not relative:
        return True
    if len(relative) > _LONGEST or re.search(r"[\x00-\x1f\\]", relative):
        return False
    return all(map(_is_name, relative.split("/")))


def _is_name(part: str) -> bool:
    stem = part.split(".")[0].rstrip(" ").upper()
    return bool(part) and part not in (".", "..") and not re.match(r"^[A-Za-z]:", part) and stem not in _DEVICES


def roots(folders: Iterable[tuple[Kind, Path]]) -> tuple[Root, ...]:
    """Roots for these folders, with names that tell them apart."""
    found: dict[str, Root] = {}
    for kind, path in folders:
        whole = path.expanduser().resolve()
        stem = re.sub(r"[^a-z0-9]+", "-", whole.name.lower()).strip("-") or kind
        names = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
        name = next(each for each in names if each not in found)
        if not any(each.path == whole and each.kind == kind for each in found.values()):
            found[name] = Root(name, whole, kind)
    return tuple(found.values())


def of_request(request: Request) -> Site:
    """The site of the server that was asked."""
    site = request.app.state.site
    assert isinstance(site, Site)
    return site


Here = Annotated[Site, Depends(of_request)]
"""A parameter of a route: the site."""

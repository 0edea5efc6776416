"""A member's resumable state on disk: a folder of tensors and numbers that is whole or does not exist.

    checkpoints/00000500/
      adapter.safetensors ...     one file for each group of tensors
      state.json                  everything else
      MANIFEST.json               format, step, and the size and hash of every file; written last, signed with its own

The manifest decides, not the folder's name or time: the newest checkpoint is the one with the highest step among those
whose every byte is right. The manifest's signature is the same in all formats, so that a later one is told from damage.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor

from impasto import files
from impasto.errors import DiskError, DivergedError, ModelFileError, Problem, UserError
from impasto.files import JSON
from impasto.runs.folder import RunFolder
from impasto.schema import Section

FORMAT = 1
MANIFEST = "MANIFEST.json"
STATE = "state.json"
_ENDING = ".safetensors"
_REPLACED = ".replaced"
_NAME = re.compile(r"\d{8,}(\.replaced)?")

Tensors = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Checkpoint:
    """All that a member needs to go on from a step."""

    path: Path
    step: int
    tensors: dict[str, dict[str, Tensor]]
    """By file, without its ending."""
    state: dict[str, JSON]


class _Entry(Section):
    """What a file must be."""

    size: int
    sha256: str


class _Manifest(Section):
    """What a checkpoint must be."""

    format: Literal[1]
    step: Annotated[int, Field(ge=0)]
    files: dict[Annotated[str, Field(pattern=r"^(state\.json|[\w-]+\.safetensors)$")], _Entry]


class _Damaged(Exception):
    """Not what was written."""


class _Newer(ModelFileError):
    """Written by a later version of this package."""


def save(
    run: RunFolder,
    step: int,
    tensors: Tensors,
    state: Mapping[str, JSON],
    metadata: Mapping[str, Mapping[str, str]] | None = None,
    *,
    keep: int = 2,
) -> Path:
    """Write the checkpoint of a step, read it back, and only then remove all but the `keep` newest.

    `tensors` are by file; `metadata` is text for the heads of these files. Raises DivergedError before anything is
    written if a number is not finite, DiskError if the disk fails; what was there before is whole in both cases.
    """
    assert keep >= 2, "of two checkpoints one is always whole"
    _check_finite(run, step, tensors)
    files.make_folder(run.checkpoints)
    files.clear(run.checkpoints)
    final = run.checkpoint(step)
    tmp = files.temporary(final)
    try:
        _write(tmp, step, tensors, state, metadata or {})
        _make_way(final)
        files.commit_folder(tmp, final)
    except BaseException:
        files.try_to_remove(tmp)
        raise
    _read_back(final)
    prune(run, step, keep)
    return final


def latest(run: RunFolder) -> tuple[Checkpoint | None, list[Problem]]:
    """The newest checkpoint of which every byte is right, and why newer ones were refused.

    None if there are no checkpoints. Raises ModelFileError (exit code 7) if there are some and none is whole, or if the
    newest was written by a later version; it is left as it is.
    """
    refused: list[Problem] = []
    for found in _newest_first(run):
        try:
            return load(found.path), refused
        except _Newer:
            raise
        except UserError as error:
            refused += [replace(problem, code="W-CKP-001") for problem in error.problems]
    if refused:
        fix = "restore the folder from a copy, or begin again with --restart (the old run is kept aside)."
        raise ModelFileError(*(replace(problem, code="E-CKP-003", fix=fix) for problem in refused))
    return None, refused


def steps(run: RunFolder) -> list[int]:
    """The steps that can be gone on from as far as sizes tell, newest first."""
    found = [each for each in _newest_first(run) if each.manifest and each.path == run.checkpoint(each.step)]
    return [each.step for each in found if each.manifest and _has_sizes(each.path, each.manifest)]


def load(path: Path) -> Checkpoint:
    """Read one checkpoint and check every byte of it. Raises ModelFileError (exit code 7) if it is not whole."""
    tensors: dict[str, dict[str, Tensor]] = {}
    state: dict[str, JSON] = {}
    try:
        manifest = _manifest(path)
        for name, payload in _contents(path, manifest):
            if name == STATE:
                state = json.loads(payload)
            else:
                tensors[name.removesuffix(_ENDING)] = parse_tensors(payload)
    except (_Damaged, ValueError, SafetensorError) as error:
        fix = "remove it, so that the one before it is used."
        raise ModelFileError(Problem("E-CKP-002", f"is not whole: {error}", str(path), fix)) from error
    return Checkpoint(path, manifest.step, tensors, state)


def prune(run: RunFolder, step: int, keep: int = 2) -> None:
    """Remove all checkpoints but the `keep` newest up to `step`, which has just been read back.

    Those of a higher step belong to a course that the run has left, or it would not have come to save this one. What a
    later version wrote, and what the disk does not let us read, is left alone.
    """
    kept: set[int] = set()
    for found in _newest_first(run):
        if isinstance(found.fault, UserError):
            continue
        is_whole = found.manifest is not None and _has_sizes(found.path, found.manifest)
        if is_whole and found.step <= step and found.step not in kept and len(kept) < keep:
            kept.add(found.step)
        else:
            files.remove(found.path)


# -- writing -------------------------------------------------------------------------------------------------------


def _write(
    folder: Path,
    step: int,
    tensors: Tensors,
    state: Mapping[str, JSON],
    metadata: Mapping[str, Mapping[str, str]],
) -> None:
    files.make_folder(folder)
    entries: dict[str, JSON] = {}
    for name, payload in _payloads(tensors, state, metadata):
        files.create(folder / name, payload)
        entries[name] = {"size": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    files.create(folder / MANIFEST, _signed({"format": FORMAT, "step": step, "files": entries}))


def _payloads(
    tensors: Tensors, state: Mapping[str, JSON], metadata: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, bytes]]:
    """Names and contents, one at a time: the memory of one file is all that a save costs."""
    for stem, group in tensors.items():
        yield stem + _ENDING, pack_tensors(_on_host(group), dict(metadata.get(stem, {})) or None)
    yield STATE, files.canonical(state)


def _on_host(group: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as the file format wants them: in host memory, dense, none sharing memory with another."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in group.items():
        dense = tensor.detach().to("cpu").contiguous()
        memory = dense.untyped_storage().data_ptr()
        found[name] = dense.clone() if memory in seen else dense
        seen.add(memory)
    return found


def _signed(body: dict[str, JSON]) -> bytes:
    return files.canonical({**body, "sha256": hashlib.sha256(files.canonical(body)).hexdigest()}) + b"\n"


def _make_way(final: Path) -> None:
    """Let a checkpoint of the same step stand under another name until the new one has been read back."""
    if final.exists():
        replaced = final.with_name(final.name + _REPLACED)
        if replaced.exists():
            files.remove(replaced)
        files.move(final, replaced)


def _read_back(path: Path) -> None:
    try:
        for _ in _contents(path, _manifest(path)):
            pass
    except _Damaged as error:
        files.remove(path)
        fix = "this disk does not keep what it is given; use another one. The checkpoint before this one is whole."
        raise DiskError(
            Problem("E-CKP-004", f"did not read back as it was written: {error}", str(path), fix)
        ) from error


def _check_finite(run: RunFolder, step: int, tensors: Tensors) -> None:
    bad = [f"{stem}: {name}" for stem, group in tensors.items() for name, value in group.items() if not _finite(value)]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        what = f"step {step} was not saved: {', '.join(bad[:3])}{more} holds numbers that are not finite"
        fix = "start the same command again; it goes on from the checkpoint before. A lower learning rate may help."
        raise DivergedError(Problem("E-NUM-002", what, str(run.path), fix))


def _finite(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    wide = tensor.float() if tensor.element_size() == 1 else tensor  # nobody asks an 8-bit float whether it is finite
    return bool(torch.isfinite(wide).all())


# -- reading -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """A folder of the right name, before its files are looked at."""

    path: Path
    step: int
    """By its manifest; by its name, where there is none to be read."""
    manifest: _Manifest | None = None
    fault: _Damaged | UserError | None = None


def _newest_first(run: RunFolder) -> list[_Found]:
    """The folders of checkpoints, highest step first, and of one step the one of that name."""
    if not run.checkpoints.is_dir():
        return []
    found = [_look(path) for path in run.checkpoints.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda each: (each.step, each.path == run.checkpoint(each.step)), reverse=True)


def _look(path: Path) -> _Found:
    try:
        manifest = _manifest(path)
    except (_Damaged, UserError) as fault:
        return _Found(path, int(path.name.removesuffix(_REPLACED)), fault=fault)
    return _Found(path, manifest.step, manifest)


def _manifest(path: Path) -> _Manifest:
    text = _bytes(path / MANIFEST)
    try:
        body = json.loads(text)
        del body["sha256"]
        if _signed(body) != text:
            raise _Damaged(f"the checksum of {MANIFEST} is wrong")
        if body["format"] > FORMAT:
            raise _newer(path, body["format"])
        return _Manifest.model_validate(body)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _Damaged(f"{MANIFEST} cannot be read") from error


def _newer(path: Path, form: int) -> _Newer:
    what = f"was written in format {form} by a later version; this one knows formats up to {FORMAT}"
    return _Newer(Problem("E-CKP-001", what, str(path), "go on with the version that wrote it. It was left as it is."))


def _contents(path: Path, manifest: _Manifest) -> Iterator[tuple[str, bytes]]:
    """The files of a checkpoint, one at a time, each checked."""
    for name, entry in manifest.files.items():
        payload = _bytes(path / name)
        if len(payload) != entry.size:
            raise _Damaged(f"{name} has {len(payload):,} bytes instead of {entry.size:,}")
        if hashlib.sha256(payload).hexdigest() != entry.sha256:
            raise _Damaged(f"the checksum of {name} is wrong")
        yield name, payload


def _bytes(path: Path) -> bytes:
    try:
        return files.read(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise _Damaged(f"there is no {path.name}") from None


def _has_sizes(path: Path, manifest: _Manifest) -> bool:
    try:
        return all((path / name).stat().st_size == entry.size for name, entry in manifest.files.items())
    except OSError:
        return False

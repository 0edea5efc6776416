"""Bases on the Hugging Face hub: an id (`org/name`) in place of a path.

An id is made a commit once, before a run's folder is opened, so that a resume reads the same bytes whatever happens to
the branch. What is fetched lies in the hub's own cache, where other programs find it too; a base that is there whole is
used without a word to the network. For a plan the heads of the weights suffice: they are kept beside, as files of full
size with holes in the place of numbers.

Cache folder, endpoint, token and offline mode are those of `huggingface_hub`, by its HF_... variables. No torch.
"""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from impasto import files
from impasto.errors import DiskError, ModelFileError, Problem
from impasto.families import hub_files
from impasto.families.config import Model
from impasto.families.hub_files import Use, Wanted
from impasto.weights import header

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
ID = re.compile(
    rf"(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>[\w.-]{{1,100}}))?(?:/(?P<file>[^\0\\]{{1,500}}\.safetensors))?"
)
FILES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".toml", ".json")
"""Ends of names that are files, and no repositories."""

COMMIT = re.compile(r"[0-9a-f]{40}")

KNOWN = (
    "black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.1-schnell", "stabilityai/stable-diffusion-3.5-large",
    "stabilityai/stable-diffusion-3.5-medium", "stabilityai/stable-diffusion-3-medium-diffusers",
    "stabilityai/stable-diffusion-xl-base-1.0", "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2-1", "stabilityai/stable-diffusion-2-1-base",
)  # fmt: skip
"""Bases that are often meant by an id with a slip in it."""

USES: dict[str, Use] = {
    "path": "base", "config_path": "described", "vae_path": "vae", "clip_l_path": "text_encoder",
    "clip_g_path": "text_encoder_2", "t5_path": "text_encoder_3",
}  # fmt: skip
"""What a setting names a whole repository for."""

ALSO = ("vae_path", "clip_l_path", "clip_g_path", "t5_path", "config_path")
"""Settings beside `path` that may hold an id."""

HEAD = 256 * 2**10
"""Bytes of a file's beginning that are asked for first; most heads are shorter."""


@dataclass(frozen=True)
class Place:
    """What an id names."""

    repo: str
    revision: str | None
    file: str | None

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}{at}" + (f"/{self.file}" if self.file else "")


def place(text: str) -> Place | None:
    """The id that a text is; None if it can only be a path."""
    found = ID.fullmatch(text)
    if found is None or any(step in ("", ".", "..") for step in text.split("/")):
        return None
    if found["file"] is None and found["repo"].endswith(FILES):
        return None
    return Place(found["repo"], found["revision"], found["file"])


def is_id(text: str, folder: Path = Path()) -> bool:
    """Whether a text names something on the hub: it looks like an id, and nothing begins like it in `folder`."""
    return place(text) is not None and not (folder / text.partition("/")[0]).exists()


def given(model: Model) -> dict[str, Place]:
    """The settings that name something on the hub: they look like an id, and nothing on this disk is called so."""
    found = {}
    for name in ("path", *ALSO):
        value = getattr(model, name)
        where = None if value is None else place(Path(value).as_posix())
        if where is not None and not Path(value).exists():
            revised = where.revision or (model.revision if name == "path" else None)
            found[name] = Place(where.repo, revised, where.file)
    return found


def pinned(model: Model) -> Model:
    """The same model with the commit of each id. Raises ModelFileError when one cannot be found out."""
    return _with_commits(model, {name: _commit(where, name) for name, where in given(model).items()})


def at_hand(model: Model) -> tuple[Model, dict[str, Place]]:
    """The same model with the commit of each id of which this disk has what a plan needs, and the ids of which it has
    not: found out without a word to the network."""
    found, missing = {}, {}
    for name, where in given(model).items():
        commit, variant = _commit_here(where), model.variant if name == "path" else None
        if commit is not None and _here(where, USES.get(name, "base"), variant, commit, heads=True) is not None:
            found[name] = commit
        else:
            missing[name] = where
    return _with_commits(model, found), missing


def _with_commits(model: Model, commits: dict[str, str]) -> Model:
    changes: dict[str, object] = {}
    for name, where in given(model).items():
        commit = commits.get(name)
        if commit and name == "path":
            changes |= {"path": str(Place(where.repo, None, where.file)), "revision": commit}
        elif commit:
            changes[name] = Path(str(Place(where.repo, commit, where.file)))
    return model.model_copy(update=changes) if changes else model


def local(model: Model, *, heads: bool = False) -> Model:
    """The same model with a place on this disk for each id; what is not there is fetched.

    With `heads`, of weights that are not there only the heads are. Raises ModelFileError, or DiskError where there is
    no room.
    """
    found = {name: _local(where, name, model.variant, heads=heads) for name, where in given(model).items()}
    if not found:
        return model
    changes: dict[str, object] = {name: str(path) if name == "path" else path for name, path in found.items()}
    return model.model_copy(update=changes | ({"revision": None} if "path" in found else {}))


def is_outline(path: Path) -> bool:
    """Whether the weights at a place are heads alone."""
    return _assets() in path.parents


def title(model: Model) -> str | None:
    """What the base is called, if it is named by an id."""
    where = given(model).get("path")
    return None if where is None else Path(where.file or where.repo).name.removesuffix(".safetensors")


def one_file(text: str, asked_by: str) -> Path | None:
    """One file on the hub, fetched; None for a text that can only be a path. `asked_by` is what named it."""
    where = place(text)
    if where is None or where.file is None or Path(text).exists():
        return None
    return _local(where, asked_by, None, heads=False)


def _local(where: Place, name: str, variant: str | None, *, heads: bool) -> Path:
    commit = _commit(where, name)
    use = USES.get(name, "base")
    variant = variant if name == "path" else None
    if (here := _here(where, use, variant, commit, heads=heads)) is not None:
        return here / where.file if where.file else here
    snapshot = _snapshot(where, commit)
    read = partial(_read, where, commit, name)
    sizes = _sizes(where, commit, name)
    if where.file and where.file not in sizes:
        singles = [each for each in sizes if each.endswith(".safetensors")]
        near = (get_close_matches(where.file, singles, 1, 0.3) or singles)[:1]
        fix = f'"{where.repo}/{near[0]}"' if near else "name another repository"
        raise ModelFileError(Problem("E-MOD-115", f"{where.repo} has no file {where.file}", _at(name), fix))
    kept = (
        Wanted((), (where.file,)) if where.file
        else hub_files.wanted(use, sizes.keys(), variant, read, where.repo)
    )  # fmt: skip
    if heads:
        outline = _outlined(where, commit, name, kept, sizes, snapshot)
        return outline / where.file if where.file else outline
    _has_room(where, {each: sizes[each] for each in kept.every if not (snapshot / each).is_file()})
    for each in kept.every:
        _fetch(where, commit, name, each)
    return snapshot / where.file if where.file else snapshot


def _here(where: Place, use: Use, variant: str | None, commit: str, *, heads: bool) -> Path | None:
    """The folder on this disk that has all that is read; with `heads`, perhaps no more than heads of weights."""
    outline = _assets() / "impasto" / where.repo.replace("/", "--") / commit
    for folder in (_snapshot(where, commit), outline)[: 2 if heads else 1]:
        there, read = _listed(folder), partial(hub_files.read_in, folder)
        with suppress(ModelFileError):
            if where.file in there or (not where.file and hub_files.wanted(use, there, variant, read, where.repo)):
                return folder
    return None


# -- the cache -----------------------------------------------------------------------------------------------------


def _cache(repo: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{repo.replace('/', '--')}"


def _snapshot(where: Place, commit: str) -> Path:
    return _cache(where.repo) / "snapshots" / commit


def _assets() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_ASSETS_CACHE).expanduser()


def _commit_here(where: Place) -> str | None:
    """What a branch, a tag or nothing meant last."""
    revision = where.revision or "main"
    kept = _cache(where.repo) / "refs" / revision
    if COMMIT.fullmatch(revision):
        return revision
    return kept.read_text("utf-8").strip() if kept.is_file() else None


def _listed(folder: Path) -> set[str]:
    """The files of a snapshot that are there; links to nothing are not."""
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}


def _has_room(where: Place, sizes: dict[str, int]) -> None:
    cache = _cache(where.repo)
    above = next(each for each in (cache, *cache.parents) if each.exists())
    needed, free = sum(sizes.values()), shutil.disk_usage(above).free
    if needed > free:
        what = f"{where.repo} needs {needed / 1e9:,.1f} GB more, and {free / 1e9:,.1f} GB are free"
        fix = "make room, or let HF_HOME name a folder on a larger disk"
        raise DiskError(Problem("E-DSK-001", what, str(above), fix))


def _outlined(where: Place, commit: str, name: str, kept: Wanted, sizes: dict[str, int], snapshot: Path) -> Path:
    """A folder like the snapshot, whose weights are heads before a hole."""
    from huggingface_hub import cached_assets_path, constants

    name_of_it = where.repo.replace("/", "--")
    folder = Path(cached_assets_path("impasto", name_of_it, commit, assets_dir=constants.HF_ASSETS_CACHE))
    for each in kept.small:
        target = folder / each
        if not target.is_file():
            files.make_folder(target.parent)
            with files.replacing(target) as tmp:
                shutil.copyfile(_fetch(where, commit, name, each), tmp)
    for each in kept.weights:
        target, whole = folder / each, snapshot / each
        if not target.is_file():
            first = _beginning(whole) if whole.is_file() else _head(where, commit, name, each)
            files.make_folder(target.parent)
            with files.replacing(target) as tmp, tmp.open("wb") as file:
                file.write(first)
                file.truncate(sizes[each])
    return folder


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        first = file.read(8)
        return first + file.read(min(int.from_bytes(first, "little"), header.LONGEST))


# -- the network ---------------------------------------------------------------------------------------------------


def _commit(where: Place, name: str) -> str:
    """The commit that a branch, a tag or nothing means. Of a hub that cannot be reached: what it meant last."""
    revision = where.revision or "main"
    if COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi

    try:
        commit = str(HfApi().model_info(where.repo, revision=revision).sha)
    except _failures() as error:
        problem = _problem(error, where, name)
        if problem.code == "E-MOD-117" and (kept := _commit_here(where)) is not None:
            return kept
        raise ModelFileError(problem) from error
    with suppress(OSError, DiskError):  # the cache may be another's; this is for the day without a network
        files.make_folder(_cache(where.repo) / "refs")
        files.write(_cache(where.repo) / "refs" / revision, commit.encode())
    return commit


def _sizes(where: Place, commit: str, name: str) -> dict[str, int]:
    """The files of a repository, with their sizes."""
    from huggingface_hub import HfApi

    try:
        found = HfApi().model_info(where.repo, revision=commit, files_metadata=True)
    except _failures() as error:
        raise ModelFileError(_problem(error, where, name)) from error
    return {each.rfilename: int(each.size or 0) for each in found.siblings or ()}


def _fetch(where: Place, commit: str, name: str, file: str) -> Path:
    """A file of the repository, in the cache."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(where.repo, file, revision=commit))
    except _failures() as error:
        raise ModelFileError(_problem(error, where, name)) from error


def _read(where: Place, commit: str, name: str, file: str) -> bytes:
    return _fetch(where, commit, name, file).read_bytes()


def _head(where: Place, commit: str, name: str, file: str) -> bytes:
    """The beginning of a safetensors file on the hub, to the end of its head."""
    first = _range(where, commit, name, file, HEAD)
    length = 8 + int.from_bytes(first[:8], "little")
    if HEAD < length <= 8 + header.LONGEST:
        first = _range(where, commit, name, file, length)
    return first[:length]


def _range(where: Place, commit: str, name: str, file: str, stop: int) -> bytes:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    headers = {**build_hf_headers(), "Accept-Encoding": "identity", "Range": f"bytes=0-{stop - 1}"}
    try:
        url = hf_hub_url(where.repo, file, revision=commit)
        with get_session().stream("GET", url, headers=headers, follow_redirects=True) as answer:
            if answer.status_code >= 400:
                answer.read()
            hf_raise_for_status(answer)
            found = b""
            for chunk in answer.iter_bytes():  # a server may not heed the range
                found += chunk
                if len(found) >= stop:
                    break
    except _failures() as error:
        raise ModelFileError(_problem(error, where, name)) from error
    return found[:stop]


def _failures() -> tuple[type[Exception], ...]:
    """What the hub's library raises when the hub, the network or the disk fails."""
    from huggingface_hub import errors

    return OSError, errors.HTTPError, errors.HFValidationError


def _problem(error: Exception, where: Place, name: str) -> Problem:
    """What went wrong with the hub, for a user. Faults of the disk are not the hub's, and go on as they are."""
    from huggingface_hub import constants, errors

    at = _at(name)
    match error:
        case errors.GatedRepoError():
            fix = f"accept them at {constants.ENDPOINT}/{where.repo}, then `hf auth login` (or set HF_TOKEN)"
            return Problem("E-MOD-116", f"{where.repo} is given to those who accepted its terms", at, fix)
        case errors.RepositoryNotFoundError():
            near = get_close_matches(where.repo, (*KNOWN, *_cached()), 1, 0.75)
            what = f"the hub knows no model {where.repo}, or shows it only to some, and no folder here is called so"
            fix = (
                f'"{near[0]}"' if near and near[0] != where.repo else "check the id; of a private one, `hf auth login`"
            )
            return Problem("E-MOD-115", what, at, fix)
        case errors.RevisionNotFoundError():
            at = "model.revision" if name == "path" else at
            return Problem("E-MOD-115", f"{where.repo} has no revision {where.revision}", at, "correct it")
        case errors.EntryNotFoundError() if not isinstance(error, errors.LocalEntryNotFoundError):
            return Problem("E-MOD-115", f"{where.repo} lacks a file that it lists ({error})", at, "name another base")
        case errors.HfHubHTTPError() if error.response.status_code in (401, 403):
            fix = f"see {constants.ENDPOINT}/{where.repo}, then `hf auth login` (or set HF_TOKEN)"
            return Problem("E-MOD-116", f"the hub does not give {where.repo} to this account", at, fix)
        case OSError() if error.errno is not None and not isinstance(error, ConnectionError):
            raise error  # the disk's
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _short(error)
    what = f"{where} is not whole in the cache, and the hub cannot be reached ({reason})"
    fix = "go online, or fetch it elsewhere and name the folder" if not constants.HF_HUB_OFFLINE else (
        f"unset HF_HUB_OFFLINE once, or `hf download {where.repo}`"
    )  # fmt: skip
    return Problem("E-MOD-117", what, at, fix)


def _at(name: str) -> str:
    return f"model.{name}" if name in USES else name


def _cached() -> list[str]:
    """The ids that are in the cache."""
    root = _cache("x/y").parent
    return [each.name.removeprefix("models--").replace("--", "/") for each in root.glob("models--*")]


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"

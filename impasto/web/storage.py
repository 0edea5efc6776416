"""What takes room, and cleaning it: always told first what would go. Only what can be made again, or what its owner
does not need to keep his results, can be removed here."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from impasto import files, lock
from impasto.store import Store
from impasto.web.live import Live
from impasto.web.site import Site
from impasto.web.views_tools import Cleaned, CleanRow, DiskRow, Storage, StorageRow

SHOWN = 1000
DAY = 86_400.0

CACHES = {
    "latents": "pictures as the base's picture encoder sees them", "text": "captions as text encoders see them",
    "cell": "pictures of comparisons", "fingerprint": "hashes of files",
}  # fmt: skip


def told(live: Live, store: Store) -> Storage:
    """Everything, the largest first."""
    rows = [*_caches(store), *_thumbnails(live.site), *_checkpoints(live)]
    disks = list(_disks(live.site, store))
    return Storage(
        items=sorted(rows, key=lambda each: -each.size), disks=disks, total=sum(each.size for each in rows),
        free=disks[0].free if disks else 0,
    )  # fmt: skip


def clean(live: Live, store: Store, ids: list[str], *, days: float, go: bool) -> Cleaned:
    """Remove what these items hold, or tell what would go."""
    found = [each for id in dict.fromkeys(ids) for each in _held(live, store, id, days)]
    if go:
        for id in dict.fromkeys(ids):
            _remove(live, store, id, days)
    items = [CleanRow(path=_plain(str(path)), size=size) for path, size in found[:SHOWN]]
    return Cleaned(items=items, files=len(found), size=sum(size for _, size in found), done=go)


def _held(live: Live, store: Store, id: str, days: float) -> list[tuple[Path, int]]:
    kind, _, name = id.partition(":")
    match kind:
        case "cache" if name in _kinds(store):
            return _old(store.root / name, days)
        case "thumbnails":
            return list(_files(live.site.cache / "thumbnails"))
        case "checkpoints":
            return list(_files(live.shelf.entry(name).run.checkpoints))
        case _:
            return []


def _remove(live: Live, store: Store, id: str, days: float) -> None:
    kind, _, name = id.partition(":")
    match kind:
        case "cache" if name in _kinds(store):
            for path, _ in _old(store.root / name, days):
                files.unlink(path)
        case "thumbnails":
            if (folder := live.site.cache / "thumbnails").is_dir():
                files.remove(folder)
        case "checkpoints":
            run = live.shelf.entry(name).run
            with lock.Lock(run.lock):  # nobody trains it meanwhile
                if run.checkpoints.is_dir():
                    files.remove(run.checkpoints)
        case _:
            pass


def _caches(store: Store) -> Iterator[StorageRow]:
    for kind in _kinds(store):
        size, count = _sum(store.root / kind)
        yield StorageRow(
            id=f"cache:{kind}", what=f"cache: {CACHES.get(kind, kind)}", path=_plain(str(store.root / kind)), size=size,
            files=count, note="made again when it is needed", removable=True,
        )  # fmt: skip


def _thumbnails(site: Site) -> Iterator[StorageRow]:
    folder = site.cache / "thumbnails"
    size, count = _sum(folder)
    if count:
        yield StorageRow(
            id="thumbnails", what="small pictures for these pages", path=_plain(str(folder)), size=size, files=count,
            note="made again when they are shown", removable=True,
        )  # fmt: skip


def _checkpoints(live: Live) -> Iterator[StorageRow]:
    for entry in live.shelf.entries():
        if entry.shown is None or entry.run.checkpoints.is_symlink():
            continue
        size, count = _sum(entry.run.checkpoints)
        if count:
            over = entry.shown.state in ("done", "stopped", "failed") and not entry.held
            note = "its adapter files stay; it can then not be resumed or forked" if over else "it is needed to go on"
            yield StorageRow(
                id=f"checkpoints:{entry.id}", what=f"checkpoints of {entry.shown.name}",
                path=_plain(str(entry.run.checkpoints)), size=size, files=count, note=note, removable=over,
            )  # fmt: skip


def _disks(site: Site, store: Store) -> Iterator[DiskRow]:
    seen: set[int] = set()
    for path in (*(each.path for kind in ("runs", "data", "models") for each in site.of(kind)), store.root):
        existing = next((each for each in (path, *path.parents) if each.exists()), None)
        if existing is None or (device := existing.stat().st_dev) in seen:
            continue
        seen.add(device)
        usage = shutil.disk_usage(existing)
        yield DiskRow(path=_plain(str(path)), total=usage.total, free=usage.free)


def _kinds(store: Store) -> list[str]:
    try:
        with os.scandir(store.root) as entries:
            names = [each.name for each in entries if each.is_dir(follow_symlinks=False) and each.name != "ui"]
    except OSError:
        return []
    return sorted(each for each in names if next((store.root / each).glob("??"), None) is not None)


def _old(folder: Path, days: float) -> list[tuple[Path, int]]:
    """Blobs not used for so many days."""
    oldest = time.time() - days * DAY
    return [
        (path, size) for path, size in _files(folder)
        if path.suffix == ".blob" and (days <= 0 or path.stat().st_mtime < oldest)
    ]  # fmt: skip


def _sum(folder: Path) -> tuple[int, int]:
    sizes = [size for _, size in _files(folder)]
    return sum(sizes), len(sizes)


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """All files below a folder, links not followed."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda each: each.name)
    except OSError:
        return
    for each in found:
        if each.is_dir(follow_symlinks=False):
            yield from _files(Path(each.path))
        elif each.is_file(follow_symlinks=False):
            try:
                yield Path(each.path), each.stat(follow_symlinks=False).st_size
            except OSError:
                continue


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()

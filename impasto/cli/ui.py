"""The web app: `impasto ui` serves it to a browser on this machine."""

from __future__ import annotations

import os
import secrets
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from impasto import files
from impasto.errors import ConfigError, Problem
from impasto.runs import lanes
from impasto.runs.queue import default_path
from impasto.store import default_root

if TYPE_CHECKING:
    from impasto.web.site import Kind, Site

PORT = 7861
_TRIES = 20
Paths = Annotated[list[Path] | None, Parameter(negative=())]


def ui(
    *,
    root: Paths = None,
    runs: Paths = None,
    models: Paths = None,
    port: int | None = None,
    no_browser: bool = False,
    no_workers: bool = False,
    host: str = "127.0.0.1",
    exposed: bool = False,
    allowed_host: Annotated[list[str] | None, Parameter(negative=())] = None,
    token_file: Path | None = None,
    webhook: str = "",
    queue: Path | None = None,
) -> None:
    """Open the web app: see runs, queue them, compare them, edit captions. Ctrl-C ends the app and no training.

    It is for whoever has the address that is printed, which ends with a new token at each start. From another machine:
    `ssh -L 7861:127.0.0.1:7861 THIS_MACHINE`, then open the same address there.

    Parameters
    ----------
    root
        A folder that the app may look into, for pictures and base models. May be repeated. If not given: the current
        folder.
    runs
        A folder of runs. May be repeated; new runs go to the first. If not given: runs, and quickstart where the
        example was trained.
    models
        A folder of base models besides. May be repeated.
    port
        The port to listen at. If not given: 7861, or the next one that is free.
    no_browser
        Do not open the page.
    no_workers
        Start no workers: jobs wait until there is an `impasto worker`.
    host
        The address to listen at. Any other than this machine's own needs --exposed and --allowed-host.
    exposed
        Yes, listen where other machines can reach it. Whoever has the token can start trainings, read and change
        what is in the folders, and fill the disk; the token goes over the network as it is, unless a proxy adds TLS.
    allowed_host
        A name by which the app may be reached besides localhost. May be repeated.
    token_file
        A file with the token, which nobody else may read, in place of a new token at each start.
    webhook
        An address that is told (POST, JSON) when a run is done, stopped, failed or lost: Slack, Discord, your own.
    queue
        The file of the line, in place of the usual one.
    """
    from impasto.web import bell, serving

    serving.check_exposure(host, exposed=exposed, names=allowed_host or ())
    site = _site(root, runs, models, queue, _token(token_file), allowed_host or (), workers=not no_workers)
    site = replace(site, webhook=bell.checked(webhook) if webhook else "")
    with serving.listening(host, port if port is not None else PORT, tries=1 if port is not None else _TRIES) as socket:
        address = serving.address(socket, site.token)
        print("\n".join(_greeting(site, address, exposed=exposed)), flush=True)
        with _opened(site, address, wanted=not no_browser):
            serving.serve(site, socket)


def _site(
    root: list[Path] | None, runs: list[Path] | None, models: list[Path] | None, queue: Path | None,
    token: str, names: list[str] | tuple[str, ...], *, workers: bool,
) -> Site:  # fmt: skip
    from impasto.web.site import Site, roots

    looked = root or [Path.cwd()]
    folders: list[tuple[Kind, Path]] = [("runs", path) for path in runs or _usual()]
    folders += [("data", path) for path in looked]
    folders += [("models", path) for path in (*(models or ()), *looked)]
    for kind, path in folders:
        if kind == "runs":
            files.make_folder(path.expanduser().absolute())
        _check_root(path)
    line = (queue or default_path(os.environ)).absolute()
    return Site(
        token=token, roots=roots(folders), queue=line, cache=default_root(os.environ) / "ui",
        state=default_path(os.environ).parent / "ui", store=default_root(os.environ), hosts=frozenset(names),
        lanes=tuple(lanes.devices(os.environ)) if workers else (),
    )  # fmt: skip


def _usual() -> list[Path]:
    return [Path("runs"), *(path for path in [Path("quickstart")] if (path / "quickstart.toml").is_file())]


def _check_root(path: Path) -> None:
    whole = path.expanduser().resolve()
    if not whole.is_dir():
        raise ConfigError(Problem("E-WEB-011", "there is no such folder", str(whole), "check the path"))
    if whole == Path(whole.anchor):
        fix = "start it in a folder of yours, or name one: --root FOLDER"
        raise ConfigError(Problem("E-WEB-011", "the whole disk would be open to the app", str(whole), fix))


def _token(file: Path | None) -> str:
    if file is None:
        return secrets.token_urlsafe(32)
    from impasto.web import serving

    try:
        written = file.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(Problem("E-WEB-010", f"it cannot be read: {error}", str(file), "check the path")) from None
    serving.check_token(written, file)
    return written


def _greeting(site: Site, address: str, *, exposed: bool) -> Iterator[str]:
    yield f"impasto is at {address}"
    yield f"runs: {', '.join(str(each.path) for each in site.of('runs'))}"
    yield f"it may look into: {', '.join(str(each.path) for each in site.of('data'))}"
    if exposed:
        yield "EXPOSED: other machines can reach this. Whoever has the token can start trainings and read these"
        yield "folders, and the token is readable on its way unless a proxy adds TLS. An SSH tunnel is safer."
    if not site.lanes:
        yield "no worker is started from here: `impasto worker` takes the jobs"
    yield "Ctrl-C ends the app; what trains goes on"


@contextmanager
def _opened(site: Site, address: str, *, wanted: bool) -> Iterator[None]:
    """Open the page, through a file that only this account can read: a command line can be read by all."""
    if not wanted or not _has_screen():
        yield
        return
    page = site.state / f"open-{os.getpid()}.html"
    files.make_folder(page.parent)
    with os.fdopen(os.open(page, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={address}">')
    try:
        webbrowser.open(page.as_uri())
        yield
    finally:
        files.unlink(page)


def _has_screen() -> bool:
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

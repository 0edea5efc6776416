"""Here files are synced in earnest."""

from __future__ import annotations

import os

import pytest

from impasto import files


@pytest.fixture(autouse=True)
def _in_earnest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.System, "fsync", staticmethod(os.fsync))

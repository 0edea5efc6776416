"""Settings: read, written, planned, imported, started."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["configs"])

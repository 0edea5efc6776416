"""Work on adapter files; models, storage, the machine."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["tools"])

"""Folders of pictures and their captions."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["datasets"])

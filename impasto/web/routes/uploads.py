"""Pictures from the browser: a new folder, and files into it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from impasto.web.lines import text
from impasto.web.live import Now
from impasto.web.views import Begun, NewFolder, Received

router = APIRouter(tags=["uploads"])

_BYTES: dict[str, Any] = {
    "requestBody": {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "required": True,
    }
}


@router.post("/uploads")
def begin_upload(body: NewFolder, now: Now) -> Begun:
    """Make a new folder for pictures in the first data root."""
    folder = now.uploads.begin(body.name)
    return Begun(id=now.site.id_of(folder, "data") or "", path=text(str(folder)))


@router.put("/uploads/{id:path}/{name}", openapi_extra=_BYTES)
async def upload(
    id: Annotated[str, Path(max_length=4096)], name: Annotated[str, Path(max_length=300)], request: Request, now: Now
) -> Received:
    """Put a picture or a caption into such a folder."""
    path = await asyncio.to_thread(now.uploads.place, id, name)
    return Received(name=path.name, bytes=await now.uploads.receive(path, request.stream()))

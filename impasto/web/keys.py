"""Tokens and addresses of other services: whether they are there, and where from. What they are is told to no page."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from impasto.web.site import Site
from impasto.web.views_tools import HubToken, Tokens, Webhook


def tokens(site: Site) -> Tokens:
    """What this server, and the trainings that are started from it, have of them."""
    return Tokens(hub=_hub(), webhook=Webhook(is_set=bool(site.webhook), host=urlsplit(site.webhook).hostname or ""))


def _hub() -> HubToken:
    from huggingface_hub import constants, get_token

    file = Path(constants.HF_TOKEN_PATH).expanduser()
    is_set = get_token() is not None
    source = ("file" if file.is_file() else "environment") if is_set else ""
    return HubToken(
        is_set=is_set, source=source, cache=str(Path(constants.HF_HUB_CACHE).expanduser()),
        is_offline=bool(constants.HF_HUB_OFFLINE),
    )  # fmt: skip

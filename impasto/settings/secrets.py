"""Keys to other services: they are never repeated, and never belong in a file of settings."""

from __future__ import annotations

import re

_SECRET = re.compile(
    r"(?<![\w-])(hf_)[A-Za-z0-9]{10,}"
    r"|(?<![\w-])(sk-|sk_|ghp_|gho_|github_pat_|glpat-|xox[bpa]-|AKIA|AIza|r8_|wandb_v\d_)[A-Za-z0-9_\-]{16,}"
    r"|(?<![\w-])(eyJ)[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"
)
_SECRET_NAME = re.compile(r"(^|_)(token|secret|password|passwd|api_?key|wandb_key|access_key|credentials?)$", re.I)


def is_secret(value: object) -> bool:
    """Whether text looks like a key to some service."""
    return isinstance(value, str) and _SECRET.search(value) is not None


def names_secret(name: str) -> bool:
    """Whether a setting of this name would hold one."""
    return _SECRET_NAME.search(name[-100:]) is not None


def without_secrets(text: str) -> str:
    """The text with keys cut down to their first letters."""
    return _SECRET.sub(lambda found: f"{found[1] or found[2] or found[3]}…", text)

"""The API's description as JSON: `python -m impasto.web.openapi > openapi.json`. The pages' types are made from it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from impasto.web.app import create
from impasto.web.site import Site


def description() -> dict[str, Any]:
    """The OpenAPI description, the same on every machine."""
    nowhere = Path("nowhere")
    return create(Site(token="", roots=(), queue=nowhere, cache=nowhere, state=nowhere)).openapi()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(description(), indent=1, sort_keys=True) + "\n")

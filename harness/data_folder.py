"""Where this user's interpreters, sources and notes of trust are kept."""

from __future__ import annotations

import os
from pathlib import Path

INTERPRETERS = "interpreters"
"""The folder of interpreters in it."""


def data_folder() -> Path:
    """Return the user's data folder, which need not exist."""
    if own := os.environ.get("LRAM_HOME"):
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification has relative paths ignored.
    base = Path(shared) if Path(shared).is_absolute() else Path.home() / ".local" / "share"
    return base / "lram-bench"

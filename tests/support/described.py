"""Checkpoints of which only the card matters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


def write_card(checkpoint: Path, card: Mapping[str, object] | None = None) -> None:
    """Write the ``config.json`` of a trained checkpoint with ``card`` into its folder, and no weights."""
    plain = {"format": "lram-checkpoint", "version": 1, "trained": True, "model": {}, "card": card or {}}
    (checkpoint / "config.json").write_text(json.dumps(plain))

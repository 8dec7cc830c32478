"""What a run's provenance says of a foreign agent's contract.

:mod:`lram.harness.gate.contract` finds it out.
"""

from __future__ import annotations

NAME = "contract@1"
BROKEN = f"{NAME}: not kept: "


def broken_promise(note: str) -> str:
    """Return what a note of :func:`contract_note` says is not kept; empty where nothing is."""
    return note.removeprefix(BROKEN) if note.startswith(BROKEN) else ""

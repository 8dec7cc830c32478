"""Plans, runs and records.

::

    from lram.harness import evaluate
    run = evaluate(["random"], "metaworld/reach-v3", "runs/first", episodes=3)
    run.episodes()        # records as a pandas frame
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lram.harness.errors import LramError
    from lram.harness.evaluation import evaluate, resume
    from lram.harness.machine import Machine
    from lram.harness.storage.run_folder import Run

__all__ = ["LramError", "Machine", "Run", "evaluate", "resume"]

# Loaded when first asked for, so that a listing does not pay for an evaluation's imports.
_HOMES = {
    "LramError": "lram.harness.errors",
    "Machine": "lram.harness.machine",
    "Run": "lram.harness.storage.run_folder",
    "evaluate": "lram.harness.evaluation",
    "resume": "lram.harness.evaluation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]

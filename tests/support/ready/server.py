"""``python -m support.ready.server SOCKET``: imports what commands need, then forks a process a request."""

from __future__ import annotations

import gc
import importlib
import sys
from contextlib import suppress

import lram.reports
from support.ready.forking import serve

IMPORTED = (
    *(
        f"lram.envs.domains.{name}"
        for name in ("darkroom", "gym.domain", "memory.domain", "robosuite.suite", "toy")
    ),
    "lram.harness.cli",
    "lram.harness.evaluation",
    "lram.harness.evaluation_files",
    "lram.harness.tracking",
    "lram.agents.factory",
    "lram.agents.acting.model_agent",
    "pandas",
    "h5py",
    "scipy.stats",
    "rich.console",
    "rich.progress",
    "matplotlib.pyplot",
    "matplotlib.backends.backend_pdf",
    "matplotlib.backends.backend_svg",
    "fontTools.subset",
    "torch._dynamo",  # PyTorch imports it when an optimizer is made
    "lram.agents.checks.equivalence",
    "lram.agents.training.run",
    "lram.agents.training.labels",
    "lram.agents.training.windows",
    "lram.harness.collection.collect",
    "lram.harness.latency.sweep",
    "lram.harness.studies.copycat",
    "lram.harness.studies.running",
    "lram.harness.studies.timing",
)
ON_CLUSTERS = (
    "lram.harness.executors.ray.rollout_node",
    "lram.harness.executors.ray.cell_node",
    "lram.harness.executors.ray.sweep_node",
)


def warm() -> None:
    """Import what commands need, and look for no garbage in it: the fork freezes what is there."""
    gc.disable()
    for name in IMPORTED:
        importlib.import_module(name)
    for name in ON_CLUSTERS:
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
    _ = lram.reports.write_report  # a face that imports when it is asked
    _compiler()
    gc.enable()


def _compiler() -> None:
    """Import numba and let it learn its types, which a process would do with its first kernel.

    The kernels are imported by those who need them: that is when they look where compiled code is kept.
    """
    try:
        from numba.core.registry import cpu_target
    except ImportError:
        return
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


if __name__ == "__main__":
    warm()
    serve(sys.argv[1])

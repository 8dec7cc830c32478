"""A server that forks agents of a Ray cluster's nodes, and drivers of it: it has imported Ray.

It is a ready process itself, so that only Ray is imported here. Nothing else is forked from it, workers
least of all (:mod:`support.ready.nodes`).
"""

from __future__ import annotations

import gc
import os
import runpy
import sys
from pathlib import Path

from support.ready.client import PIPE
from support.ready.forking import serve

AGENTS = ("_private/runtime_env/agent/main.py", "dashboard/agent.py", "dashboard/dashboard.py")
"""What nodes start, below Ray's folder."""


def warm() -> None:
    """Import what agents and drivers need, and leave the path of imports as it was."""
    gc.disable()
    os.environ[PIPE] = "1"  # read when the agents' modules are imported
    path = sys.path[:]
    import ray.util.scheduling_strategies

    for name in AGENTS:
        runpy.run_path(str(Path(ray.__file__).parent / name), run_name="ready")  # their imports, and no more
    sys.path[:] = path
    gc.enable()


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder
    warm()
    serve(sys.argv[1])

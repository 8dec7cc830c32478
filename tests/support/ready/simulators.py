"""``python -m support.ready.simulators SOCKET``: forks workers of simulators, with numpy and toy there."""

from __future__ import annotations

import sys

import lram.envs.domains.toy
import lram.envs.workers.worker  # noqa: F401
from support.ready.forking import serve

if __name__ == "__main__":
    serve(sys.argv[1])

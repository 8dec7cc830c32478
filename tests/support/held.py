"""An agent by which a sweep of latencies cannot end before a test lets it, however late the test looks."""

from __future__ import annotations

from pathlib import Path

_MODULE = """
import os
import time
from pathlib import Path

from lram.agents.experts.baselines import RandomAgent

HERE = Path(__file__).parent


class Held(RandomAgent):
    def act(self, state, observations, rewards, lanes):
        try:
            with (HERE / "first").open("x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            while (HERE / "first").read_text() != str(os.getpid()) and not (HERE / "let go").exists():
                time.sleep(0.05)
        return super().act(state, observations, rewards, lanes)
"""


class HeldAgent:
    """Random play of which the first process decides at once, and any other one when it was let go.

    Attributes:
        spec: Its specification, for a command whose working directory is the folder.
    """

    spec = "held_agent:Held"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "held_agent.py").write_text(_MODULE)

    def let_go(self) -> None:
        """Let all processes decide from now on."""
        (self._folder / "let go").touch()

"""Contexts: how much of an episode an action model sees when it decides.

    AGENT@carry        all of it: its state is carried through the episode, as it always is
    AGENT@reset=50     the state is made fresh every 50 decisions
    AGENT@window=50    at each decision, the last 50 timesteps are read anew from a fresh state

Weights, returns asked for and inputs stay the same; the return-to-go continues over the episode. A timestep
that is first in its context is read as an episode's first: without the action and the reward before it.
As long as an episode is no longer than the context, all three decide alike, up to rounding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from lram.agents.api import AgentError

Mode = Literal["window", "reset", "carry"]
MODES: tuple[Mode, ...] = get_args(Mode)

_SUFFIX = re.compile(r"(?P<whole>carry)|(?P<mode>window|reset)=(?P<timesteps>[0-9]{1,18})")
MOST_TIMESTEPS = 1_000_000
"""Far more than any episode here has."""


@dataclass(frozen=True, slots=True)
class Context:
    """What an agent sees of an episode.

    Attributes:
        mode: How; the module's text tells.
        timesteps: Length of a window, or decisions from reset to reset; 0 where the state is carried.
    """

    mode: Mode
    timesteps: int = 0

    def __post_init__(self) -> None:
        if (self.mode == "carry") != (self.timesteps == 0) or self.timesteps < 0:
            raise AgentError(f"there is no context {self.mode}={self.timesteps}; give 1 timestep or more")
        if self.timesteps > MOST_TIMESTEPS:
            raise AgentError(
                f"the context {self.mode}={self.timesteps} is too long; give {MOST_TIMESTEPS} timesteps or "
                "less, or @carry for all of an episode"
            )

    @property
    def suffix(self) -> str:
        """What stands behind an agent's name, such as ``@window=50``."""
        return "@carry" if self.mode == "carry" else f"@{self.mode}={self.timesteps}"

    def describe(self) -> str:
        """Return it in words."""
        if self.mode == "carry":
            return "its state carried through the episode"
        if self.mode == "reset":
            return f"its state made fresh every {self.timesteps} decisions"
        return f"the last {self.timesteps} timesteps read anew at each decision"


def split_context(spec: str) -> tuple[str, str]:
    """Return the agent that ``spec`` names and the text after its last ``@``; empty without one.

    An ``@`` that a path follows (``runs@home/checkpoint``), or that stands within an argument
    (``m:make('@')``), is part of the agent.
    """
    agent, mark, suffix = spec.rpartition("@")
    if not mark or not agent or not suffix or "/" in suffix or suffix.endswith(")"):
        return spec, ""
    return agent, suffix


def parse_context(suffix: str) -> Context:
    """Return the context that the text after ``@`` names, such as ``window=50``; AgentError for none."""
    match = _SUFFIX.fullmatch(suffix)
    if match is None or (match["timesteps"] and not int(match["timesteps"])):
        raise AgentError(
            f"'@{suffix}' is no context; write @window=50 for an agent that reads the last 50 timesteps "
            "anew, @reset=50 for one whose state is made fresh every 50 decisions, or @carry"
        )
    return Context("carry") if match["whole"] else Context(match["mode"], int(match["timesteps"]))  # type: ignore[arg-type]

"""Watches episodes while they are played: gets each step, and the images it asks for."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from lram.agents.api import Action
from lram.envs.workers.process import Stepped
from lram.harness.storage.records import WorkItem


class RolloutObserver(Protocol):
    """Watches a rollout; it must not change what it is shown.

    The calls of one episode come in order. An episode that is played again begins again: what was seen of it
    before does not count.
    """

    def begun(self, item: WorkItem) -> bool:
        """Take note that the episode has begun; return whether an image of its first scene is wanted."""
        ...

    def stepped(self, item: WorkItem, action: Action | None, event: Stepped) -> bool:
        """Take what ``action`` led to; return whether an image of the scene after it is wanted."""
        ...

    def rendered(self, item: WorkItem, image: npt.NDArray[np.uint8]) -> None:
        """Take the image that was asked for last in this episode, uint8 (height, width, 3)."""
        ...

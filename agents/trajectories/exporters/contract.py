"""What exporters are asked, and what they tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How episodes are written.

    Attributes:
        fps: Decisions a second, which a store does not know.
        images: Each as a PNG, exactly, or all of an episode as a video, which is lossy.
        quality: Of a video: x264's constant rate factor, 0 (largest file) to 51.
        seen: Called after each episode.
    """

    fps: int = 20
    images: Literal["image", "video"] = "image"
    quality: int = 18
    seen: Callable[[], None] = lambda: None


@dataclass(slots=True)
class Exported:
    """What was written.

    Attributes:
        episodes, steps: Counts.
        tasks: Episodes by task id.
        notes: What is otherwise than in the store, and in how many episodes.
    """

    episodes: int = 0
    steps: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

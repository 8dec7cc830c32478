"""Scenes of several episodes, step by step, beside each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lram.harness.films.drawing import Caption, beside, panel, panel_width, usual_height
from lram.harness.films.spool import Image, Spool
from lram.harness.storage.records import EpisodeRecord


@dataclass(frozen=True, slots=True)
class Scene:
    """An episode in a film.

    Attributes:
        caption: What stands above it.
        spool: What it showed.
        marked_from: Step from which its caption is marked; None: never.
    """

    caption: Caption
    spool: Spool
    marked_from: int | None = None

    @classmethod
    def of(cls, record: EpisodeRecord, spool: Spool, marked_from: int | None = None) -> Scene:
        """Return the scene of a replayed record; ``marked_from``: where it differs from another."""
        note = "" if marked_from is None else f"differs from step {marked_from}"
        return cls(
            Caption(record.agent, record.task, record.episode, record.length or 0, note), spool, marked_from
        )

    def frame(self, step: int, height: int, width: int) -> Image:
        """Return the newest image that there is after ``step`` decisions, and what belongs to it; after the
        episode's end, its end.
        """
        seen = self.spool.seen(step)
        since = step if seen == len(self.spool) - 1 else seen
        marked = self.marked_from is not None and since >= self.marked_from
        moment = self.spool.moments[seen]
        return panel(self.spool.image(seen), height, width, self.caption, moment, mark=marked)


def in_grid(scenes: Sequence[Scene], height: int, steps: Sequence[int]) -> Iterator[Image]:
    """Yield the frames of ``steps``, in order, with scenes of ``height`` pixels (an even number).

    Several stand in a grid about as wide as it is high. One that has ended shows its end.
    """
    width = max(panel_width(scene.spool.shape, height) for scene in scenes)
    columns = math.ceil(math.sqrt(len(scenes)))
    ended: dict[int, Image] = {}
    for step in steps:
        panels = []
        for place, scene in enumerate(scenes):
            image = ended.get(place)
            if image is None:
                image = scene.frame(step, height, width)
            if step >= max(len(scene.spool) - 1, scene.marked_from or 0):
                ended[place] = image  # nothing changes any more
            panels.append(image)
        yield beside(panels, columns)


def usual_size(spool: Spool) -> int:
    """Return the height of a scene that stands alone, where none was asked for; it is even."""
    height = usual_height(spool.shape)
    return height + height % 2

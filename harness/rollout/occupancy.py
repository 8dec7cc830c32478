"""How well places were used: lanes of a rollout, or job slots of a cluster."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Occupied:
    """What an :class:`Occupancy` has come to.

    Attributes:
        places: How many there were, at the end.
        wall_s: From the first note to the last.
        busy_share: Mean share of the places that were busy.
        tail_s: From the moment at which a place stood empty because nothing waited any more, to the end.
        tail_share: What stood empty within the tail, as a share of ``places * wall_s``.
    """

    places: int
    wall_s: float
    busy_share: float
    tail_s: float
    tail_share: float


class Occupancy:
    """Adds up how many of some places are busy. The caller gives the times, of a clock that never goes back.

    A tail begins when a place is empty and nothing waits. It is forgotten when something waits again, such
    as an episode that has to be repeated: what follows then is the tail.
    """

    def __init__(self, places: int) -> None:
        """Begin with ``places`` (1 or more) of which nothing is known yet."""
        self._places = places
        self._began: float | None = None
        self._last = 0.0
        self._busy = 0
        self._busy_s = self._whole_s = 0.0
        self._tail_began: float | None = None
        self._tail_empty_s = 0.0

    def note(self, now: float, busy: int, *, waits: bool, places: int | None = None) -> None:
        """Take note that from ``now`` (seconds) on ``busy`` places are busy.

        Args:
            now: Not before the last note.
            busy: 0 to ``places``.
            waits: Whether anything waits for a place.
            places: How many there are from now on (None: as many as before).
        """
        if self._began is None:
            self._began = self._last = now
        passed = now - self._last
        self._busy_s += self._busy * passed
        self._whole_s += self._places * passed
        self._tail_empty_s += (self._places - self._busy) * passed
        self._last, self._busy = now, busy
        self._places = self._places if places is None else places
        if waits:
            self._tail_began = None
        elif busy < self._places and self._tail_began is None:
            self._tail_began, self._tail_empty_s = now, 0.0

    def result(self, now: float | None = None) -> Occupied:
        """Return what it came to by ``now`` (None: by the last note); all zero before the first note."""
        end = self._last if now is None else now
        wall = 0.0 if self._began is None else end - self._began
        if not wall:
            return Occupied(self._places, 0.0, 0.0, 0.0, 0.0)
        late = end - self._last
        whole = self._whole_s + self._places * late
        tail = empty = 0.0
        if self._tail_began is not None:
            tail = end - self._tail_began
            empty = self._tail_empty_s + (self._places - self._busy) * late
        return Occupied(self._places, wall, (self._busy_s + self._busy * late) / whole, tail, empty / whole)

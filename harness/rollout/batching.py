"""How long lanes that are ready wait for the others of their group.

A network pass costs nearly the same for one lane as for all that share it. Without a timeout, lanes fall into
two parties that take turns, each pass serving half of what it could; with a long one, workers idle.
"""

from __future__ import annotations

LONGEST_S = 0.25
"""Seconds that nothing is waited for longer than."""

# Passes' time that is spent waiting for further lanes of a group: where a worker would idle meanwhile, and
# where all have other lanes to step, so that a pass for few lanes would only take time from them.
_IDLE_PASSES = 0.25
_BUSY_PASSES = 2.0


class BatchingTimeout:
    """The timeout of one gathering of lanes."""

    def __init__(self, began: float) -> None:
        """Take the moment at which the gathering began."""
        self._began = began
        self._idle_since: float | None = None

    def left(self, now: float, pass_s: float, *, all_busy: bool) -> float:
        """Return the seconds that are still waited; 0 or less: no longer.

        Args:
            now: The moment.
            pass_s: Seconds of a pass of the agent that waits.
            all_busy: Whether all workers have something to do; where one has not, the time since then
                counts.
        """
        if all_busy:
            since, passes, self._idle_since = self._began, _BUSY_PASSES, None
        else:
            since = self._idle_since = self._idle_since or now
            passes = _IDLE_PASSES
        return since + min(passes * pass_s, LONGEST_S) - now

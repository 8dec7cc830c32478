"""What outcomes that did not occur could do to a difference.

A test of paired differences knows the outcomes that occurred. An agent whose n episodes of a task all ended
alike may still have others: one that comes with probability q stays unseen with probability (1 - q)^n, so
that n equal episodes exclude, at 95%, only what is more frequent than about 3 / n (the rule of three). An
agent that earns nothing in ten episodes and everything in one of ten looks exactly like one that never earns
anything, in a third of all evaluations.

So each such agent and task is charged with the least favourable outcome of the task's range, as often as it
could have stayed unseen in all tasks together: rates q, one a task, with product of (1 - q)^n >= alpha, and
the loss, the sum of w q L, the largest possible. L is how far the difference would move in such an episode, w
the task's weight. Where the tasks' losses differ, the rates that lose most are found by water filling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lram.reports.statistics.streams import Array


@dataclass(frozen=True, slots=True)
class Stakes:
    """What unseen outcomes could take from a difference.

    Attributes:
        weights: Of the tasks.
        counts: Their pairs of episodes.
        losses: By how much an unseen outcome would move the difference of a pair, >= 0; 0 for tasks where
            each agent's episodes differed.
    """

    weights: Array
    counts: Array
    losses: Array

    def loss(self, alpha: float) -> float:
        """Return by how much the mean may be off, with unseen outcomes of probability ``alpha`` or more."""
        rates, pairs, lost = self._sorted()
        if not len(rates):
            return 0.0
        # With the first k tasks charged: sum of n log(rate / level) = log(1 / alpha).
        level = np.exp((np.cumsum(pairs * np.log(rates)) + np.log(alpha)) / np.cumsum(pairs))
        k = int(np.nonzero(level < rates)[0][-1])
        return float(np.sum(lost[: k + 1] - level[k] * pairs[: k + 1]))

    def p(self, gap: float) -> float:
        """Return how probable it can be, at most, that outcomes worth ``gap`` stay unseen; 0 for none."""
        rates, pairs, lost = self._sorted()
        if not len(rates) or gap >= lost.sum():
            return 0.0
        if gap <= 1e-9 * lost.sum():
            return 1.0
        level = (np.cumsum(lost) - gap) / np.cumsum(pairs)
        k = int(np.nonzero(level < rates)[0][-1])
        return float(np.exp(-np.sum(pairs[: k + 1] * np.log(rates[: k + 1] / level[k]))))

    def _sorted(self) -> tuple[Array, Array, Array]:
        """Return of the tasks that are charged: the loss for each pair, the pairs, the loss; falling."""
        lost = self.weights * self.losses
        kept = lost > 0
        rates = lost[kept] / self.counts[kept]
        order = np.argsort(-rates, kind="stable")
        return rates[order], self.counts[kept][order], lost[kept][order]

"""Which episodes are replayed: those of some agents and tasks, or a random sample of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lram.agents.shown import few
from lram.harness.errors import LramError
from lram.harness.storage.records import EpisodeRecord
from lram.harness.storage.run_folder import Run
from lram.harness.storage.seeds import derive


def scored(
    run: Run, agents: Sequence[str] | None = None, tasks: Sequence[str] | None = None
) -> list[EpisodeRecord]:
    """Return the scored episodes' records, in plan order.

    Args:
        run: The run.
        agents: Labels of its agents (None: all).
        tasks: Ids of its tasks (None: all).

    Raises:
        LramError: The run has no such agent or task, or none of their episodes is scored.
    """
    _check(run, "agent", agents, [entry.label for entry in run.plan.agents])
    _check(run, "task", tasks, [planned.task.id for planned in run.plan.tasks])
    found = [
        record
        for record in run.records()
        if record.status == "scored"
        and (not agents or record.agent in agents)
        and (not tasks or record.task in tasks)
    ]
    if not found:
        raise LramError(
            f"{run.path} has no scored episode{' of these' if agents or tasks else ''}, so there is nothing "
            "to replay; 'lram resume' plays what is missing"
        )
    return found


def sample(records: Sequence[EpisodeRecord], share: float, seed: int) -> list[EpisodeRecord]:
    """Return a random ``share`` of ``records``, at least one, each set of that size equally likely.

    Args:
        records: To choose from.
        share: Above 0, at most 1; a part of an episode counts as a whole one.
        seed: Names the choice.

    Raises:
        LramError: There is no such share.
    """
    if not 0 < share <= 1:
        raise LramError(f"the share of episodes to replay is {share:g}; give one above 0 and up to 1")
    # 0.07 * 100 is a little more than 7 in floating point, and 7 episodes are meant.
    size = max(1, math.ceil(len(records) * share - 1e-9))
    chosen = np.random.default_rng(derive("verify", seed)).permutation(len(records))[:size]
    return [records[place] for place in sorted(chosen)]


def _check(run: Run, what: str, named: Sequence[str] | None, known: Sequence[str]) -> None:
    for name in named or ():
        if name not in known:
            raise LramError(f"{run.path} has no {what} {name!r}; it has {few(known, 6)}")

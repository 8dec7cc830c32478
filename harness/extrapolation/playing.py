"""Play an extrapolation's scores; an agent that breaks down in play does not keep the others from it."""

from __future__ import annotations

from collections.abc import Callable

from lram.harness import evaluation
from lram.harness.errors import LramError
from lram.harness.machine import Machine
from lram.harness.progress import Progress
from lram.harness.rollout.loop import AgentRaisedError
from lram.harness.storage.run_folder import Run, RunWriter
from lram.harness.trust import NONE, Trust


def play(
    run: Run, machine: Machine, progress: Progress, say: Callable[[str], None], trust: Trust = NONE
) -> None:
    """Play what ``run`` misses.

    An agent that raises, as a model does whose output is not finite, stops where it is: its traceback is in
    the run's logs, what it has not played stays missing, and the others continue.

    Args:
        run: Of the scores.
        machine: How to spread the work.
        progress: Told what happens.
        say: Given a line for each agent that raised.
        trust: What the user vouches for.
    """
    machine = evaluation.machine_for(run, machine)
    broken: set[str] = set()
    while items := [item for item in Run(run.path).missing() if item.agent not in broken]:
        try:
            with RunWriter(Run(run.path)) as writer:
                evaluation.go_on(writer, items, None, machine, progress, trust=trust)
            return
        except LramError as error:
            if not isinstance(error.__cause__, AgentRaisedError):
                raise
            broken.add(error.__cause__.label)
            say(f"{error}; the rest of its episodes is left out, the other agents continue")

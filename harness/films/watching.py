"""The observer that films: what each episode showed, in a spool of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from lram.agents.api import Action
from lram.envs.workers.process import Stepped
from lram.harness.films.spool import Image, Moment, Spool
from lram.harness.plan import PlannedAgent
from lram.harness.rollout.translation import task_spec
from lram.harness.storage.records import RunPlan, WorkItem


class Camera:
    """Keeps images of every so many steps of every episode, of its start and of its end."""

    def __init__(self, plan: RunPlan, every: int = 1) -> None:
        """Film each ``every``-th step of episodes of ``plan``."""
        self._plan, self._every = plan, every
        self._targets: dict[tuple[str, str], float] = {}
        self._spools: dict[WorkItem, Spool] = {}
        self._earned: dict[WorkItem, float] = {}

    def meet(self, agents: Mapping[str, PlannedAgent]) -> None:
        """Take note of the returns that models among ``agents`` ask for; what others do with theirs, if they
        have any, is not known.
        """
        module = sys.modules.get("lram.agents.acting.model_agent")  # not loaded: there is no model
        for label, agent in agents.items():
            if module is None or not isinstance(agent, module.ModelAgent):
                continue
            for planned in self._plan.tasks:
                asked = agent.asks_for(task_spec(planned))
                if asked is not None:
                    self._targets[label, planned.task.id] = asked

    def begun(self, item: WorkItem) -> bool:
        """See :class:`lram.harness.rollout.observer.RolloutObserver`."""
        spool = self._spools.setdefault(item, Spool())
        spool.clear()
        self._earned[item] = 0.0
        spool.moments.append(Moment(0, None, 0.0, self._asked(item)))
        return True

    def stepped(self, item: WorkItem, action: Action | None, event: Stepped) -> bool:
        """See :class:`lram.harness.rollout.observer.RolloutObserver`."""
        step, moments = event.step, self._spools[item].moments
        # With a new context the agent is reset, and what it asks for is the whole return again.
        self._earned[item] = 0.0 if step.context_reset else self._earned[item] + step.signal
        taken = b"" if action is None else _bytes(action)
        total = moments[-1].total + step.reward
        moments.append(Moment(len(moments), step.reward, total, self._asked(item), taken, event.trajectory))
        return (len(moments) - 1) % self._every == 0 or step.terminated or step.truncated

    def rendered(self, item: WorkItem, image: Image) -> None:
        """See :class:`lram.harness.rollout.observer.RolloutObserver`."""
        self._spools[item].add(image)

    def take(self, item: WorkItem) -> Spool | None:
        """Return what was filmed of an episode, which is the caller's to close; None where nothing was."""
        return self._spools.pop(item, None)

    def close(self) -> None:
        """Free what nobody has taken."""
        for spool in self._spools.values():
            spool.close()
        self._spools.clear()

    def _asked(self, item: WorkItem) -> float | None:
        target = self._targets.get((item.agent, item.task))
        return None if target is None else target - self._earned[item]


def _bytes(action: Action) -> bytes:
    return action.to_bytes(4, "little") if isinstance(action, int) else action.tobytes()

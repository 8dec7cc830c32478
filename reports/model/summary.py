"""A summary whole: frozen dataclasses that msgspec writes as ``summary.json``.

Nothing in here depends on the machine, the moment or the order in which episodes were recorded, save the
caveats on models that did not always compute alike and on simulators of several versions.
Floats are rounded to 12 significant digits, so that a processor's last bit does not show.
"""

from __future__ import annotations

from dataclasses import dataclass

from lram.envs.scores import Normaliser
from lram.reports.model.results import AgentResult, Comparison, TaskEntry, TaskResult
from lram.reports.model.training import TrainingResult

LAYOUT = 2
"""Version of ``summary.json``.

2: intervals have ``doubts``; ``interquartile_mean`` of an agent is ``iqm_of_task_means``.
"""


@dataclass(frozen=True, slots=True)
class Caveat:
    """Something a reader must know before the numbers.

    Attributes:
        kind: A stable word for programs, such as ``untrained``.
        text: One or two sentences for people.
        items: The tasks or agents concerned.
    """

    kind: str
    text: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything that the records say, in numbers.

    Attributes:
        layout: Version of this layout.
        seed, resamples: Of what is resampled, the paired comparisons. Intervals of scores, returns and rates
            need no resampling.
        level: Of every interval.
        run_seeds: Seeds of the runs that were read, sorted.
        episodes_per_task: Planned episodes per agent and task, as ``(least, most)``.
        caveats: First what concerns trust, then coverage, then notes on references, then trainings.
        training: Trainings shown beside the agents; ``summary.json`` has the field where there is one.
        normaliser: Whose references the scores have (:data:`lram.envs.scores.Normaliser`).
    """

    layout: int
    seed: int
    resamples: int
    level: float
    run_seeds: tuple[int, ...]
    episodes_per_task: tuple[int, int]
    caveats: tuple[Caveat, ...]
    agents: tuple[AgentResult, ...]
    tasks: tuple[TaskEntry, ...]
    results: tuple[TaskResult, ...]
    comparisons: tuple[Comparison, ...]
    training: tuple[TrainingResult, ...] = ()
    normaliser: Normaliser = "paper"

    def result(self, agent: str, task: str) -> TaskResult:
        """Return one agent's result on one task; KeyError where it was not planned."""
        for result in self.results:
            if result.agent == agent and result.task == task:
                return result
        raise KeyError((agent, task))

    def agent(self, label: str) -> AgentResult:
        """Return one agent's result; KeyError for an unknown label."""
        for agent in self.agents:
            if agent.label == label:
                return agent
        raise KeyError(label)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the agents' scores, and caveats."""
        from lram.reports.model.html import summary_html

        texts = [caveat.text for caveat in self.caveats]
        return summary_html(self.agents, len(self.tasks), self.level, texts)

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains, in plan order."""
        return tuple(dict.fromkeys(task.domain for task in self.tasks))

"""What each agent has seen in training: by its own tasks where it tells them, else by the paper's split.

The split of the task table (train and heldout) is the paper's: it says what the paper's models were trained
on, and nothing of a model that was trained on two tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from lram.envs.task import Task
from lram.harness.storage.records import AgentEntry
from lram.reports.model import AgentResult, AgentSplit, Caveat
from lram.reports.samples import AgentSamples
from lram.reports.statistics import equal_domain_weights
from lram.reports.text import count, listing

if TYPE_CHECKING:
    from lram.agents.api import AgentInfo

Source = Literal["card", "paper"]


def source_of(info: AgentInfo) -> Source | None:
    """Return what tells which tasks an agent has seen; None where nothing was trained."""
    if info.training_tasks is not None:
        return "card"
    return "paper" if info.trained else None


def has_seen(info: AgentInfo, task: Task) -> bool | None:
    """Return whether ``task`` was among an agent's training tasks; None where nothing was trained."""
    source = source_of(info)
    if source is None:
        return None
    return task.id in (info.training_tasks or ()) if source == "card" else task.split == "train"


def agent_split(
    agent: AgentEntry, tasks: Sequence[Task], score: AgentSamples, reach: set[str]
) -> AgentSplit | None:
    """Return an agent's scores on the tasks that it has seen and on the others; None where none was trained.

    Args:
        agent: The agent.
        tasks: Those that it plays.
        score: The agent's normalised scores.
        reach: Ids of the tasks that could have a score.
    """
    source = source_of(agent.info)
    if source is None:
        return None
    seen = [task for task in tasks if has_seen(agent.info, task)]
    unseen = [task for task in tasks if not has_seen(agent.info, task)]
    return AgentSplit(
        source=source,
        complete=agent.info.training_tasks_complete,
        training_tasks=len(agent.info.training_tasks or ()),
        seen=tuple(task.id for task in seen),
        unseen=tuple(task.id for task in unseen),
        seen_score=score.aggregate(seen, reach, equal_domain_weights),
        unseen_score=score.aggregate(unseen, reach, equal_domain_weights),
    )


def caveats(agents: Sequence[AgentResult]) -> Iterator[Caveat]:
    """Yield what is to be said of tasks that are called seen or unseen."""
    guessed = [agent.label for agent in agents if agent.split and agent.split.source == "paper"]
    if guessed:
        its = "its" if len(guessed) == 1 else "their"
        yield Caveat(
            "seen by the paper's split",
            f"{count(len(guessed), 'trained agent does', 'trained agents do')} not tell the tasks of "
            f"{its} training: there, seen and unseen are the paper's training and held-out tasks, which "
            f"need not be {its} own.",
            tuple(guessed),
        )
    partly = [agent for agent in agents if agent.split and not agent.split.complete]
    if partly:
        yield Caveat(
            "seen before",
            f"{count(len(partly), 'agent was', 'agents were')} trained further from a checkpoint whose "
            "training tasks were not noted: a task that is called unseen may have been among those.",
            tuple(agent.label for agent in partly),
        )
    foreign = [
        f"{agent.label}: {listing(split.unseen)}"
        for agent in agents
        if (split := agent.split) and split.source == "card" and split.unseen
    ]
    if foreign:
        yield Caveat(
            "unseen tasks",
            f"{count(len(foreign), 'agent plays', 'agents play')} tasks outside of the agent's own training, "
            "whatever the paper's split calls them; the table of seen and unseen tasks tells them apart.",
            tuple(foreign),
        )

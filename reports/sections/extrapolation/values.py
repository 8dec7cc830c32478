"""What extrapolations found: several folders as one body of evidence, checked to agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lram.agents.acting.contexts import Context
from lram.envs.scores import Normaliser
from lram.harness.errors import LramError
from lram.harness.extrapolation.folder import Extrapolation
from lram.harness.extrapolation.records import Candidate, LossRecord, Reading, Stretch, ValidityRecord
from lram.reports.evidence.collect import collect
from lram.reports.evidence.evidence import Evidence
from lram.reports.statistics import Array

ALL = "mean over domains"
MEASURES = ("loss", "action error")

_Where = tuple[str, int, int, int]  # digest of the store, episode, start, stop


@dataclass(frozen=True)
class Read:
    """What one agent predicted of one stretch, mean over the dimensions of an action: (T,) each.

    Where a prediction is not finite, all are NaN.
    """

    task: str
    loss: Array
    error: Array
    top1: Array

    def of(self, measure: str) -> Array:
        """Return one of ``MEASURES``."""
        return self.loss if measure == "loss" else self.error

    @property
    def domain(self) -> str:
        """Of the task."""
        return self.task.partition("/")[0]


@dataclass(frozen=True)
class Values:
    """All folders together.

    Attributes:
        agents: Each once, in the order of the plans.
        contexts: What each agent was played with, limited ones first, by length.
        evidence: Of all scores; None where nothing is played.
        reads: By agent, reading and stretch.
        validity: By agent.
        unseen: Why no agent was trained on the trajectories, as the plans tell.
        missing_losses, of_losses, missing_episodes, of_episodes: What is unfinished.
        unread: Labels of models with stretches that they cannot read whole.
        unplayed: Labels of the runs' agents that episodes are missing of.
    """

    agents: tuple[Candidate, ...]
    contexts: dict[str, tuple[Context, ...]]
    evidence: Evidence | None
    reads: dict[tuple[str, Reading], dict[_Where, Read]]
    validity: dict[str, ValidityRecord]
    unseen: tuple[str, ...]
    missing_losses: int
    of_losses: int
    missing_episodes: int
    of_episodes: int
    unread: tuple[str, ...] = ()
    unplayed: tuple[str, ...] = ()

    @property
    def score_domains(self) -> list[str]:
        """Domains that are played."""
        return self.evidence.domains if self.evidence is not None else []

    @property
    def loss_domains(self) -> list[str]:
        """Domains that losses are measured in."""
        return list(dict.fromkeys(read.domain for reads in self.reads.values() for read in reads.values()))

    def whole(self, agent: str, domain: str) -> list[Read]:
        """Return what ``agent`` predicted of each stretch of ``domain`` that it read whole."""
        return [read for read in self.reads.get((agent, "whole"), {}).values() if read.domain == domain]

    def both(self, agent: str, domain: str) -> list[tuple[Read, Read]]:
        """Return the stretches that it read whole and within the trained length, in pairs."""
        within = self.reads.get((agent, "within"), {})
        whole = self.reads.get((agent, "whole"), {})
        return [(whole[key], read) for key, read in within.items() if key in whole and read.domain == domain]

    def place(self, agent: str) -> int:
        """Return the agent's place in the order of colours."""
        return [one.label for one in self.agents].index(agent)


def load(folders: Sequence[Path], normaliser: Normaliser = "paper") -> Values:
    """Read extrapolations and merge what they say of the same agents; scores are by ``normaliser``.

    Raises:
        LramError: One is none or damaged; one label stands for two models, or has two trained lengths.
    """
    found = [Extrapolation(folder) for folder in folders]
    agents: dict[str, Candidate] = {}
    contexts: dict[str, dict[Context, None]] = {}
    validity: dict[str, ValidityRecord] = {}
    for one in found:
        for agent in one.plan.agents:
            _check_same(agents.setdefault(agent.label, agent), agent, one)
            contexts.setdefault(agent.label, {}).update(dict.fromkeys(one.plan.variants()))
        for record in one.validity():
            known = validity.get(record.agent)
            if known is None or (not record.holds, _reach(record)) > (not known.holds, _reach(known)):
                validity[record.agent] = record
    runs = [run for one in found if (run := one.scores) is not None]
    return Values(
        agents=tuple(agents.values()),
        contexts={label: tuple(sorted(known, key=_order)) for label, known in contexts.items()},
        evidence=collect(runs, normaliser) if runs else None,
        reads=_reads(found),
        validity=validity,
        unseen=tuple(dict.fromkeys(one.plan.unseen for one in found if one.plan.unseen)),
        missing_losses=sum(len(one.missing_losses()) for one in found),
        of_losses=sum(len(one.plan.readings()) for one in found),
        missing_episodes=sum(len(run.missing()) for run in runs),
        of_episodes=sum(len(run.plan.items()) for run in runs),
        unread=tuple(
            agent.label
            for one in found
            for agent in one.plan.agents
            if not all(agent.reads(stretch) for stretch in one.plan.stretches)
        ),
        unplayed=tuple(dict.fromkeys(item.agent for run in runs for item in run.missing())),
    )


def _reads(found: Sequence[Extrapolation]) -> dict[tuple[str, Reading], dict[_Where, Read]]:
    reads: dict[tuple[str, Reading], dict[_Where, Read]] = {}
    for one in found:
        for record in one.losses():
            stretch = one.plan.stretches[record.stretch]
            digest = one.plan.stores[stretch.store].digest
            where = (digest, stretch.number, stretch.start, stretch.stop)
            reads.setdefault((record.agent, record.reading), {}).setdefault(where, _read(record, stretch))
    return reads


def _read(record: LossRecord, stretch: Stretch) -> Read:
    if {len(record.loss), len(record.right), len(record.error)} != {stretch.length}:
        raise LramError(
            f"the losses of {record.agent} on {stretch.task}, episode {stretch.number}, are not of its "
            f"{stretch.length} timesteps; remove the line and resume"
        )
    loss, right, error = (
        np.array(values, np.float64) / record.dims for values in (record.loss, record.right, record.error)
    )
    for values in (right, error):
        values[~np.isfinite(loss)] = np.nan
    return Read(stretch.task, loss, error, right)


def _reach(record: ValidityRecord) -> int:
    return record.points[-1].timesteps if record.points else 0


def _order(context: Context) -> tuple[bool, str, int]:
    return context.mode == "carry", context.mode, context.timesteps


def _check_same(known: Candidate, agent: Candidate, found: Extrapolation) -> None:
    # A model without a digest is identified by what builds it; others may have been moved.
    same = known.info.digest == agent.info.digest and (agent.info.digest or known.spec == agent.spec)
    if not same:
        what = "two models"
    elif known.trained != agent.trained:
        what = f"the trained lengths {known.trained} and {agent.trained}"
    else:
        return
    raise LramError(
        f"the label {agent.label!r} has {what} in these extrapolations (the second in {found.path}); report "
        "them apart, or make one of them again under another label"
    )

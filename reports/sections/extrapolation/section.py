"""The section on extrapolation: what becomes of models beyond the context that they were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lram.envs.scores import Normaliser
from lram.harness.extrapolation.folder import SCORES, Extrapolation
from lram.reports import text
from lram.reports.model import Caveat, Estimate
from lram.reports.samples import Resampling
from lram.reports.section import Section, SectionSettings, SectionSpec
from lram.reports.sections.extrapolation.curves import curves, gaps
from lram.reports.sections.extrapolation.figures import draw
from lram.reports.sections.extrapolation.model import (
    Loss,
    Score,
    ScorePair,
    losses,
    score_pairs,
    scores,
    without_base,
)
from lram.reports.sections.extrapolation.tables import ExtrapolationNumbers, tables, validity
from lram.reports.sections.extrapolation.values import Values, load
from lram.reports.summary.caveats import no_checksums

KEY = "extrapolation"
RESAMPLES, LEVEL = 2000, 0.95


def section(folders: Sequence[Path], settings: SectionSettings | None = None) -> Section:
    """Return the section on the extrapolations in ``folders``.

    Args:
        folders: Of 'lram extrapolate'.
        settings: Seed of the resampling, and whose references scores have.

    Raises:
        LramError: A folder is none or damaged, or they contradict each other.
    """
    settings = settings or SectionSettings()
    normaliser = settings.normaliser
    values, how = load(folders, normaliser), Resampling(settings.seed, RESAMPLES, LEVEL)
    unsigned = [f"{folder.name}: {name}" for folder in folders for name in unsigned_files(folder)]
    by_context, pairs = scores(values, how), score_pairs(values, how)
    at_and_past, by_timestep, by_length = losses(values, how), curves(values), gaps(values, how)
    return Section(
        key=KEY,
        title="Beyond the trained context",
        lead=_lead(values, normaliser),
        tables=tables(
            ExtrapolationNumbers(values, by_context, pairs, at_and_past, by_timestep, LEVEL, normaliser)
        ),
        drawings=draw(values, by_context, by_timestep, by_length, LEVEL),
        summary=_summary(values, by_context, pairs, at_and_past),
        caveats=[*no_checksums(unsigned, "extrapolation-no-checksums"), *_caveats(values)],
        methods=_METHODS,
    )


def unsigned_files(folder: Path) -> list[str]:
    """Return which files of an extrapolation, its scores among them, carry no checksum."""
    found = Extrapolation(folder)
    scores = found.scores
    played = [f"{SCORES}/{name}" for name in scores.without_checksums()] if scores is not None else []
    return [*found.without_checksums(), *played]


def _lead(values: Values, normaliser: Normaliser) -> list[str]:
    trained = ", ".join(
        f"{agent.label} on {text.count(agent.trained, 'timestep')}"
        for agent in values.agents
        if agent.trained
    )
    said = [f"Trained lengths, as the checkpoints' cards or the command say: {trained}."] if trained else []
    if values.score_domains:
        said.append(
            "Scores: each model plays with a limited context, a window that is read anew at each decision or "
            "a state that is made fresh every so many decisions, and with its state carried through the "
            "episode. They show what its own actions lead to. They do not show why: a short context also "
            "lacks what a longer one would tell." + text.score_words(normaliser)
        )
    if values.loss_domains:
        said.append(
            "Losses: each model reads trajectories of other policies whole, in one pass, and is asked for "
            f"every action. Not trained on: {'; '.join(values.unseen)}. They separate the length of the "
            "context from the phase of the episode, but say nothing about states that only a model's own "
            "actions lead to."
        )
    return said


def _caveats(values: Values) -> list[Caveat]:
    found = []
    broken = tuple(label for label, record in values.validity.items() if not record.holds)
    if broken:
        found.append(
            Caveat(
                "extrapolation-not-valid",
                "Beyond the trained length the step of these models is not their forward, or a state is not "
                "finite: their scores there and their losses are of different functions.",
                broken,
            )
        )
    unknown = tuple(agent.label for agent in values.agents if agent.trained is None)
    if unknown:
        found.append(
            Caveat(
                "extrapolation-trained-length",
                "It is not known on how many timesteps these models were trained, so what is beyond that "
                "length is not known; state it with 'lram extrapolate --trained'.",
                unknown,
            )
        )
    alone = tuple(agent.label for agent in values.agents if without_base(values, agent))
    if alone:
        found.append(
            Caveat(
                "extrapolation-no-base",
                "These models were played beyond the length that they were trained on, but not with a "
                "window or resets of that length, so the table of pairs does not compare their scores; "
                "'lram extrapolate --contexts' with that length makes what is missing.",
                alone,
            )
        )
    short = {agent.label: agent for agent in values.agents if agent.reach is not None}
    left_out = tuple(label for label in short if label in values.unread)
    if left_out:
        found.append(
            Caveat(
                "extrapolation-not-read",
                "These models cannot read a context of any length, as their learned positions end; their "
                "losses leave out the trajectories that are longer: "
                + ", ".join(f"{label} those beyond {short[label].reach} timesteps" for label in left_out)
                + ".",
                left_out,
            )
        )
    untrained = tuple(agent.label for agent in values.agents if agent.info.trained is False)
    if untrained:
        found.append(Caveat("extrapolation-untrained", "These models have random weights.", untrained))
    if values.missing_losses or values.missing_episodes:
        found.append(
            Caveat(
                "extrapolation-unfinished",
                f"Extrapolations are unfinished: {values.missing_episodes} of {values.of_episodes} episodes "
                f"and {values.missing_losses} of {values.of_losses} readings are missing; 'lram extrapolate "
                "--resume' continues with them.",
                values.unplayed,
            )
        )
    return found


def _summary(
    values: Values, by_context: Sequence[Score], pairs: Sequence[ScorePair], at_and_past: Sequence[Loss]
) -> dict[str, Any]:
    return {
        "agents": [
            {
                "agent": one.label,
                "digest": one.info.digest,
                "trained_length": one.trained,
                "told_by": one.told,
            }
            for one in values.agents
        ],
        "scores": [
            {
                "agent": one.agent,
                "mode": one.context.mode,
                "context": one.context.timesteps or None,
                "domain": one.domain,
                "score": _plain(one.score.estimate),
                "tasks": one.score.rests_on.tasks,
                "episodes": one.score.rests_on.episodes,
            }
            for one in by_context
        ],
        "pairs": [
            {
                "agent": pair.agent,
                "domain": pair.domain,
                "context": pair.context.suffix[1:],
                "against": pair.base.suffix[1:],
                "difference": _plain(pair.difference),
                "p_holm": pair.p_holm,
                "episode_pairs": pair.episodes,
            }
            for pair in pairs
        ],
        "losses": [
            {
                "agent": one.agent,
                "domain": one.domain,
                "measure": one.measure,
                "trained_length": one.trained,
                "at": one.at,
                "past": one.past,
                "past_minus_at": _plain(one.difference),
                "whole_minus_within": _plain(one.length),
                "trajectories": one.trajectories,
            }
            for one in at_and_past
        ],
        "validity": list(validity(values).records()),
    }


def _plain(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    interval = estimate.interval
    ends = [interval.low, interval.high] if interval else None
    doubts = list(interval.doubts) if interval else []
    return {"value": estimate.value, "interval": ends, "note": estimate.note, "doubts": doubts}


_METHODS = (
    (
        "Contexts",
        "A window of C: at each decision the last C timesteps are read anew from a fresh state, the first of "
        "them without the action and reward before it. Fresh every C: the state begins anew every C "
        "decisions, likewise. The return-to-go continues over the episode in all of them.",
    ),
    (
        "Losses by position",
        "One forward over the whole trajectory; and windows of the trained length T that begin every T/2, "
        "of which, but for the first, the second half counts, so that every prediction has T/2 to T "
        "timesteps of context. Means are over an action's dimensions, then timesteps, then a task's "
        "trajectories, then tasks; intervals are Welch's, over the trajectories of each task.",
    ),
)

SPEC = SectionSpec(KEY, "extrapolation.json", section)

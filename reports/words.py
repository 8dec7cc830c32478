"""The sentences of a report that are the same on the page and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from lram.reports.caveats import COLLECTED
from lram.reports.chapters import Chapter
from lram.reports.model import Summary
from lram.reports.protocols import departures, summary_of
from lram.reports.statistics import fewest_pairs
from lram.reports.text import count, names, names_up_to


def title(summary: Summary, chapters: Sequence[Chapter] = ()) -> str:
    """Return what was evaluated, or only trained or measured otherwise, in one line."""
    if not summary.agents and not summary.training:
        return "; ".join(chapter.title for chapter in chapters)
    if not summary.agents:
        return f"Training of {count(len(summary.training), 'model')}"
    agents, tasks = count(len(summary.agents), "agent"), count(len(summary.tasks), "task")
    return f"Evaluation of {agents} on {tasks} in {count(len(summary.domains), 'domain')}"


def lead(summary: Summary) -> str:
    """Return one paragraph on what was measured; empty where chapters tell it all."""
    if not summary.agents and not summary.training:
        return ""
    if not summary.agents:
        acts = "they act" if len(summary.training) > 1 else "it acts"
        return f"{_trained(summary)} Nothing here tells how well {acts}: no evaluation is in this report."
    least, most = summary.episodes_per_task
    per_task = count(most, "episode") if least == most else f"{least} to {most} episodes"
    seeds = "seed" if len(summary.run_seeds) == 1 else "seeds"
    scored, planned = (
        sum(getattr(agent, name) for agent in summary.agents) for name in ("scored", "planned")
    )
    unusual = [f"{domain} under {name}" for domain, (name, _) in departures(summary.tasks).items()]
    collected = any(caveat.kind == COLLECTED for caveat in summary.caveats)
    met = " and the agent" if collected else ", so all agents of a run meet the same ones"
    protocols = f" Not by the default protocol: {names(unusual)}." if unusual else ""
    agents = names_up_to([agent.name for agent in summary.agents])
    return (
        f"{agents} played {count(len(summary.tasks), 'task')} of "
        f"{names_up_to(summary.domains)}: {per_task} per agent and task, {scored} of {planned} planned "
        f"episodes scored.{protocols} Initial states follow from the run {seeds} "
        f"{names_up_to([str(seed) for seed in summary.run_seeds])}{met}. Every "
        "interval shows the noise between episodes of one checkpoint; the noise between training runs is not "
        "measured here." + (f" {_trained(summary)}" if summary.training else "")
    )


def _trained(summary: Summary) -> str:
    many = len(summary.training) > 1
    shown = names_up_to([one.name for one in summary.training])
    return f"{'Trainings' if many else 'Training'} shown: {shown}, by their losses on stored trajectories."


def methods(summary: Summary, chapters: Sequence[Chapter] = ()) -> list[tuple[str, str]]:
    """Return how the numbers were made: pairs of a term and its explanation."""
    return [*_methods(summary), *(method for chapter in chapters for method in chapter.methods)]


def _methods(summary: Summary) -> list[tuple[str, str]]:
    found = _evaluation_methods(summary) if summary.agents else []
    if summary.training:
        found.append(
            (
                "Training",
                "Losses are cross-entropies of the actions that were taken, one for each dimension of an "
                "action, in nats; a model that has learned nothing has ln(274) = 5.6. Those of training are "
                "means over the updates between two lines of metrics, each domain for itself. Validation "
                "predicts windows of held-out trajectories, the same ones each time, from their own past: it "
                "tells how well actions of the data are predicted, not how well the model acts. Means over "
                "domains take each domain alike. Numbers of tokens are those that the backbone read, without "
                "padding.",
            )
        )
    return found


def _evaluation_methods(summary: Summary) -> list[tuple[str, str]]:
    level = f"{summary.level:.0%}"
    return [
        (
            "Return",
            "The sum of the task's own, unclipped rewards over an episode.",
        ),
        (
            "Normalised score",
            "(return − random) / (reference − random): 0 is the random reference, a random policy's return "
            "as the source gives it (no measured policy for Procgen, mostly 0 by its convention, nor "
            "for CompoSuite, the least return of the expert's data: compare with the random agent's own "
            "score); 1 is the reference, a "
            "human's return for Atari and a return of the training data elsewhere (its mean for DMControl "
            "and Procgen, where scores above 1 are therefore normal; its best or target return for "
            "Meta-World and CompoSuite; success for MimicGen). Scores are not clipped. A task without a "
            "reference above random has no score; it is named, and it is in no aggregate. "
            "tables/audit.csv lists all references with their sources.",
        ),
        (
            "Mean of domain means",
            "Task scores are averaged within each domain, then over domains, so that a domain with 240 tasks "
            "weighs as much as one with 11.",
        ),
        (
            "Interquartile mean",
            "The 25% trimmed mean of all tasks' mean scores pooled: int(N / 4) tasks are dropped at each end "
            "(scipy.stats.trim_mean). It is taken over tasks, not over single episodes.",
        ),
        (
            "Intervals",
            f"{level} percentile intervals of {summary.resamples} stratified bootstrap replicates (seed "
            f"{summary.seed}): episodes are drawn again within each task, tasks stay fixed. Each task's "
            "replicates are spread by √(n / (n − 1)) around its mean, n its episodes, because percentile "
            "intervals are too narrow at few episodes, and an aggregate's replicates are centred on its "
            "estimate: an interval tells what another evaluation with as many episodes would give. (Few "
            "noisy episodes shift an interquartile mean itself, so compare it at equal numbers of "
            "episodes.) A task with one episode, or whose episodes all gave the same return, has no "
            "interval: equal returns of few episodes do not show that there is no noise. In aggregates it "
            "borrows: residuals of the agent's other tasks in the domain whose episodes differ, averaged "
            "over as many draws as it has episodes; where the domain has none, residuals in normalised "
            "score of the agent's tasks in all domains; where there is none at all, the aggregate has no "
            "interval. tables/aggregates.csv counts the tasks that borrow.",
        ),
        (
            "Success",
            f"Share of episodes in which the simulator reported success at any step, and at the last step. "
            f"Single tasks have {level} Wilson intervals; means over tasks have bootstrap intervals, or "
            "Wilson's over the pooled episodes where no task's episodes differ.",
        ),
        (
            "Comparisons",
            "Episodes of two agents with the same task and seed are paired. p is two-sided, from a "
            "studentised sign-flip test: the weighted mean of the tasks' mean differences over its standard "
            f"error, against {summary.resamples} random sign patterns (all of them where there are fewer), "
            "each with a standard error of its own. It is exact where swapping the two agents in any pair "
            "changes nothing, and holds approximately where only their means are equal. The interval is that "
            "of the means that this test does not reject, so it leaves out 0 exactly where p is below "
            f"{1 - summary.level:.3g}; fewer than {fewest_pairs(summary.level)} pairs of episodes have none. "
            "A test knows only outcomes that occurred: where all episodes of an agent on a task ended alike "
            "(and are not the same trajectory), p and interval also allow for the least favourable outcome "
            "between the task's references (or beyond them, where one was seen), as often as it could have "
            "stayed unseen. Rarer outcomes remain unknown everywhere: n episodes of a task show 95 times in "
            f"100 only what comes in more than 3 of n. Holm's method corrects p for {_corrected(summary)}. "
            "A small p says that these two checkpoints differ on these tasks, not that one training "
            "method beats the other.",
        ),
        (
            "Errors",
            "An episode that could not be finished counts as errored and one not yet played as missing; "
            "neither enters an average, and both are shown. An aggregate is compared with the planned tasks "
            "that have a usable score reference: below that number it is marked as not comparable.",
        ),
    ]


def _corrected(summary: Summary) -> str:
    agents = len(summary.agents)
    if len(summary.comparisons) == agents * (agents - 1) // 2:
        return "all pairs of this report"
    return f"the {count(len(summary.comparisons), 'pair')} that this report compares"


def protocols(summary: Summary) -> list[tuple[str, str]]:
    """Return the id of every protocol with its summary, empty where its adapter is not at hand."""
    return [(name, summary_of(name)) for name in dict.fromkeys(task.protocol for task in summary.tasks)]

"""The sentences of a report that are the same on the page and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from lram.envs.scores import Normaliser
from lram.reports.aggregates import aggregate_metrics, pair_metrics
from lram.reports.answer import ranking
from lram.reports.model import Summary
from lram.reports.section import Section
from lram.reports.sections.training_seeds.section import KEY as SEEDS
from lram.reports.statistics import fewest_pairs
from lram.reports.summary.caveats import COLLECTED
from lram.reports.summary.protocols import departures, summary_of
from lram.reports.text import count, names, names_up_to, score_words


def title(summary: Summary, sections: Sequence[Section] = ()) -> str:
    """Return what was evaluated, or only trained or measured otherwise, in one line."""
    if not summary.agents and not summary.training:
        return "; ".join(section.title for section in sections)
    if not summary.agents:
        return f"Training of {count(len(summary.training), 'model')}"
    agents, tasks = count(len(summary.agents), "agent"), count(len(summary.tasks), "task")
    return f"Evaluation of {agents} on {tasks} in {count(len(summary.domains), 'domain')}"


def lead(summary: Summary, sections: Sequence[Section] = ()) -> str:
    """Return one paragraph on what was measured; empty where sections tell it all."""
    if not summary.agents and not summary.training:
        return ""
    if not summary.agents and sections:
        return _trained(summary)  # how well they act is for the sections to tell, as learning curves do
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
    trained_anew = next((one.title for one in sections if one.key == SEEDS), "")
    apart = (
        f"that between trainings stands under {trained_anew}"
        if trained_anew
        else "the noise between training runs is not measured here"
    )
    return (
        f"{agents} played {count(len(summary.tasks), 'task')} of "
        f"{names_up_to(summary.domains)}: {per_task} per agent and task, {scored} of {planned} planned "
        f"episodes scored.{protocols} Initial states follow from the run {seeds} "
        f"{names_up_to([str(seed) for seed in summary.run_seeds])}{met}. Every "
        f"interval shows the noise between episodes of one checkpoint; {apart}."
        + score_words(summary.normaliser)
        + (f" {_trained(summary)}" if summary.training else "")
    )


def _trained(summary: Summary) -> str:
    many = len(summary.training) > 1
    shown = names_up_to([one.name for one in summary.training])
    return f"{'Trainings' if many else 'Training'} shown: {shown}, by their losses on stored trajectories."


def methods(summary: Summary, sections: Sequence[Section] = ()) -> list[tuple[str, str]]:
    """Return how the numbers were made: pairs of a term and its explanation."""
    return [*_methods(summary), *(method for section in sections for method in section.methods)]


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
        _normalised_score(summary.normaliser),
        *((metric.heading, metric.method) for metric in aggregate_metrics()),
        ("Ranks", ranking.method(summary)),
        (
            "Intervals",
            f"{level} intervals of what other episodes of the same checkpoint on the same tasks would give. "
            "Of returns and scores: Welch's t interval of the weighted mean of task means, each task with "
            "its own variance, moved outwards on the side of the long tail for skewed returns (Hall 1992), "
            "and ended where no return can lie (such as 0 and 1000 in DMControl). A task whose episodes "
            "are all alike has no interval and counts with no noise in means over tasks, unless its "
            "neighbours' noise would outweigh everything else; such a task, and one with one episode, "
            "takes their noise (‡). † marks an interval that rests on few episodes: on fewer than 150 "
            "degrees of freedom by the numbers of episodes and the weights of tasks, or on fewer than 20 "
            "by the noise that was seen. Without a mark, at least 90 of 100 intervals held the truth for "
            "every law of returns that was simulated, and with returns near a normal law 93 to 97. Where "
            "fewer than three episodes differ from what is usual on their task no interval is given. "
            "docs/explanation/statistics.md has the tables; the CSV files and summary.json name every doubt.",
        ),
        (
            "Success",
            "Share of episodes in which the simulator reported success at any step, and at the last step. "
            f"The {level} intervals are score intervals of a weighted mean of rates: Wilson's for one task "
            "(with Poisson ends where at most three episodes went the other way), and over tasks each task "
            "at its own number of episodes.",
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
        *((metric.heading, metric.method) for metric in pair_metrics() if summary.comparisons),
        (
            "Errors",
            "An episode that could not be finished counts as errored and one not yet played as missing; both "
            "are shown. Where the simulator failed, the episode enters no average. Where the agent failed by "
            "its own fault (it gave what is no action), the episode counts as the worst that could have come "
            "of it: not solved, and with the least return that the task can give, where one is known (0 for "
            "DMControl, CompoSuite, MimicGen and Dark-Room). Where none is known, the agent has no return "
            "and no score on that task, and is not compared on it; the same goes for tasks of which an agent "
            "that ended its run with an error misses episodes. An aggregate is compared with the planned "
            "tasks that have a usable score reference: below that number it is marked as not comparable.",
        ),
    ]


_ONE = (
    "1 is the reference, a human's return for Atari and a return of the training data elsewhere (its mean "
    "for DMControl and Procgen, where scores above 1 are therefore normal; its best or target return for "
    "Meta-World and CompoSuite; success for MimicGen). Scores are not clipped."
)


def _normalised_score(normaliser: Normaliser) -> tuple[str, str]:
    formula = "(return − random) / (reference − random)"
    if normaliser == "measured-random":
        text = (
            f"{formula}, normaliser measured-random: 0 is the mean return of uniform actions as it was "
            f"measured on the task under the protocol of these runs; {_ONE} Random play that was measured "
            "under another protocol does not count, and exact expectations (Dark-Room) stay. A task has no "
            "score where random play was not measured, and where the reference is not above the upper end "
            "of its 95% interval; it is named, and it is in no aggregate. The noise of random play's own "
            "mean is in no interval. tables/audit.csv lists both references with their sources."
        )
    else:
        text = (
            f"{formula}: 0 is the random reference, a random policy's return as the source gives it (no "
            "measured policy for Procgen, mostly 0 by its convention, nor for CompoSuite, the least return "
            "of the expert's data: compare with the random agent's own score, or use --normaliser "
            f"measured-random); {_ONE} A task without a reference above random has no score; it is named, "
            "and it is in no aggregate. tables/audit.csv lists all references with their sources, and "
            "random play as measured."
        )
    return "Normalised score", text


def _corrected(summary: Summary) -> str:
    agents = len(summary.agents)
    if len(summary.comparisons) == agents * (agents - 1) // 2:
        return "all pairs of this report"
    return f"the {count(len(summary.comparisons), 'pair')} that this report compares"


def protocols(summary: Summary) -> list[tuple[str, str]]:
    """Return the id of every protocol with its summary, empty where its adapter is not at hand."""
    return [(name, summary_of(name)) for name in dict.fromkeys(task.protocol for task in summary.tasks)]

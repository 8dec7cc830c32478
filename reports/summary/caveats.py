"""What a reader must know before the numbers, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from lram.envs.scores import HALF, Normaliser
from lram.reports.comparison.pairs import ALL_PAIRS
from lram.reports.evidence.evidence import Evidence
from lram.reports.model import ALL_EQUAL, AgentResult, Caveat, TaskEntry, TaskResult
from lram.reports.summary import seen
from lram.reports.summary.failures import own_failures
from lram.reports.summary.protocols import departures
from lram.reports.text import count, listing, names, names_up_to, number, percent, reason_without

COLLECTED = "collected"
"""Kind of the caveat on runs whose agents met different initial states."""

_FEW = 10
"""Below so many scored episodes of a task an interval is rough."""


def caveats(
    evidence: Evidence,
    agents: Sequence[AgentResult],
    tasks: Sequence[TaskEntry],
    results: Sequence[TaskResult],
) -> tuple[Caveat, ...]:
    """Return the caveats of a summary, those that concern trust first."""
    return (
        *_records(evidence, results),
        *_agents(agents),
        *seen.caveats(agents),
        *_failures(evidence, results),
        *_coverage(evidence, agents, results),
        *_protocols(tasks),
        *_normaliser(evidence.normaliser, tasks),
        *_references(evidence.normaliser, tasks),
        *_design(tasks, results),
    )


def left_out(agents: int, compared: int) -> Iterator[Caveat]:
    """Yield which pairs of ``agents`` are not compared, and how to ask for them."""
    pairs = agents * (agents - 1) // 2
    if compared < pairs:
        found = f"{compared:,} of the {pairs:,} pairs of agents {'is' if compared == 1 else 'are'} compared"
        why = f"; of more than {ALL_PAIRS} agents only the pairs that are asked for" if not compared else ""
        yield Caveat(
            "comparisons",
            f"{found if compared else f'None of the {pairs:,} pairs of agents is compared'}{why}. To compare "
            "others, make the report with --baseline LABEL (every agent against that one), --compare A,B "
            "(one pair, repeatable) or --compare all.",
        )


def no_checksums(files: Sequence[str], kind: str = "no checksums") -> list[Caveat]:
    """Return what is to be said of ``files`` of earlier versions, which carry no checksums."""
    text = (
        "These files were written by a version that gave them no checksums: a change to them would not be "
        "noticed."
    )
    return [Caveat(kind, text, tuple(files))] if files else []


def _records(evidence: Evidence, results: Sequence[TaskResult]) -> Iterator[Caveat]:
    if not any(result.scored + result.errored for result in results):
        yield Caveat("empty", "No episode has been recorded yet: there is nothing to average.")
    yield from no_checksums(evidence.unsigned)
    if evidence.collected:
        yield Caveat(
            COLLECTED,
            "These episodes were played to collect training data: every agent met initial states of its own, "
            "so no two agents can be compared episode by episode.",
        )
    if evidence.disagreements:
        yield Caveat(
            "disagreement",
            f"{count(len(evidence.disagreements), 'episode was', 'episodes were')} recorded by two runs of "
            "the same seed with different results, so something is not reproducible; those of the run "
            "named first count.",
            evidence.disagreements,
        )
    if evidence.realtime_hz:
        held = _held(evidence)
        yield Caveat(
            "real time",
            f"The world did not wait for {count(len(evidence.realtime_hz), 'agent')}: while it thought, the "
            "world continued with its last action. Such scores are those of a model on the machine that it "
            "ran on, and need not repeat.",
            tuple(
                f"{label}: {hz:g} steps a second, {held.get(label, _NOT_PLAYED)}"
                for label, hz in evidence.realtime_hz.items()
            ),
        )
    if evidence.mixtures:
        yield Caveat(
            "mixed computing",
            f"The episodes of {count(len(evidence.mixtures), 'agent')} were not all computed alike: sessions "
            "differ in what touches the last digits of a model's numbers, and from there the course of an "
            "episode. Playing them again alike may give other returns.",
            _listed(evidence.mixtures),
        )
    if evidence.sources:
        yield Caveat(
            "several agents in one",
            f"The episodes of {count(len(evidence.sources), 'agent')} were played with different code or "
            "weights under one name: such numbers are of no single agent. Evaluate the one that you mean "
            "again.",
            tuple(
                f"{label}: {', '.join(f'{len(found)} versions of {what}' for what, found in by_fact.items())}"
                for label, by_fact in evidence.sources.items()
            ),
        )
    if evidence.broken_promises:
        yield Caveat(
            "contract",
            f"{count(len(evidence.broken_promises), 'agent does', 'agents do')} not act alike, bit for bit, "
            "whatever the lane, the lanes beside it and what it held before: the course of an episode then "
            "depends on chance, and playing again may give other returns. It was found before play, on "
            "made-up observations.",
            tuple(f"{label}: {what}" for label, what in evidence.broken_promises.items()),
        )
    if evidence.simulators:
        yield Caveat(
            "several simulator versions",
            f"Episodes of {names_up_to(list(evidence.simulators))} were played with several versions of what "
            "the simulator is made of, so equal seeds need not mean equal worlds.",
            _listed(evidence.simulators),
        )
    repeats = []
    for (agent, task), cell in evidence.cells.items():
        trajectories = [record.trajectory for record in cell.scored.values()]
        if len(set(trajectories)) < len(trajectories):
            repeats.append(f"{agent} on {task}: {len(set(trajectories))} different of {len(trajectories)}")
    if repeats:
        yield Caveat(
            "repeats",
            f"On {count(len(repeats), 'task', 'tasks')} (counted by agent) some episodes are the same "
            "trajectory step by step, because the simulator offers few different starts (Atari without "
            "sticky actions: at most 30; Procgen's training levels: 200). There, intervals and p are about "
            "further draws of the same few starts; they are too narrow, and p too small, for any others.",
            tuple(repeats),
        )


_NOT_PLAYED = "no episode scored"


def _held(evidence: Evidence) -> dict[str, str]:
    """Return by label the share of steps that the world took while an agent thought, where it took any."""
    steps: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for (agent, _), cell in evidence.cells.items():
        for record in cell.scored.values():
            steps[agent] += record.length or 0
            held[agent] += record.measured.held
    return {
        agent: f"{percent(held[agent] / taken, 1)}% of them without a new decision"
        for agent, taken in steps.items()
        if taken
    }


def _listed(mixed: dict[str, dict[str, tuple[str, ...]]]) -> tuple[str, ...]:
    """Return a line for each name: what there are several values of, and the values."""
    return tuple(
        f"{name}: {'; '.join(f'{fact} {names(values)}' for fact, values in by_fact.items())}"
        for name, by_fact in mixed.items()
    )


def _agents(agents: Sequence[AgentResult]) -> Iterator[Caveat]:
    untrained = tuple(agent.label for agent in agents if agent.trained is False)
    if untrained:
        yield Caveat(
            "untrained",
            f"{count(len(untrained), 'agent has', 'agents have')} random weights: such scores say nothing "
            "about an architecture, only that it runs.",
            untrained,
        )


def _failures(evidence: Evidence, results: Sequence[TaskResult]) -> Iterator[Caveat]:
    quarantined = tuple(
        dict.fromkeys(r.task for r in results if any(f.kind == "quarantine" for f in r.failures))
    )
    if quarantined:
        yield Caveat(
            "quarantine",
            f"{count(len(quarantined), 'task was', 'tasks were')} quarantined after failing too "
            "often: episodes that were still to come count as errored.",
            quarantined,
        )
    yield from own_failures(results, evidence.raised)
    lost = {(r.agent, r.task): r.errored - r.failed_by_agent for r in results}
    if any(lost.values()):
        kinds = Counter(
            record.failure.kind
            for cell in evidence.cells.values()
            if len(cell.scored) < len(cell.records)
            for record in cell.records.values()
            if record.failure is not None and not record.failed_by_agent
        )
        listed = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
        planned = sum(r.planned for r in results)
        yield Caveat(
            "errored",
            f"{sum(lost.values())} of {count(planned, 'planned episode')} ended in an error of the simulator "
            f"({listed}). Such episodes are in no average; if failing goes with playing badly, the averages "
            "flatter.",
            tuple(
                f"{r.agent} on {r.task}: {number} of {r.planned}"
                for r in results
                if (number := lost[r.agent, r.task])
            ),
        )
    missing = sum(r.missing for r in results)
    if missing:
        planned = sum(r.planned for r in results)
        yield Caveat(
            "missing",
            f"{missing} of {count(planned, 'planned episode')} "
            f"{'has' if missing == 1 else 'have'} no record: the run is not finished.",
            tuple(f"{r.agent} on {r.task}: {r.missing} of {r.planned}" for r in results if r.missing),
        )


def _coverage(
    evidence: Evidence, agents: Sequence[AgentResult], results: Sequence[TaskResult]
) -> Iterator[Caveat]:
    short = [agent for agent in agents if not agent.mean_of_domain_means.rests_on.comparable]
    if short:
        reach = [(agent.label, agent.mean_of_domain_means.rests_on) for agent in short]
        yield Caveat(
            "coverage",
            f"{count(len(short), 'agent has', 'agents have')} no score on some of the planned tasks. Such "
            "aggregates are marked and do not compare with others; the paired comparisons use shared tasks "
            "only.",
            tuple(
                f"{label}: {rests_on.tasks} of {count(rests_on.of_tasks, 'task')}"
                f"{', unfinished' if rests_on.unfinished else ''}"
                for label, rests_on in reach
            ),
        )
    skipped: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.skipped:
            reason = reason_without(result.task, result.skipped)
            skipped.setdefault((result.agent, reason), []).append(result.task)
    if skipped:
        yield Caveat(
            "skipped",
            f"{count(len({agent for agent, _ in skipped}), 'agent')} cannot play all tasks; what an agent "
            "cannot play was not run.",
            tuple(
                f"{agent} cannot play {count(len(barred), 'task')}: {listing(barred)}: {reason}"
                for (agent, reason), barred in skipped.items()
            ),
        )


def _protocols(tasks: Sequence[TaskEntry]) -> Iterator[Caveat]:
    for domain, (name, default) in departures(tasks).items():
        yield Caveat(
            "protocol",
            f"{domain} ran under {name}, not the reference evaluation's protocol ({default}): its scores do "
            "not compare with those of the default protocol.",
            tuple(task.id for task in tasks if task.domain == domain),
        )


def _normaliser(normaliser: Normaliser, tasks: Sequence[TaskEntry]) -> Iterator[Caveat]:
    if normaliser == "measured-random":
        rests_on = [task.random_play.episodes for task in tasks if task.random_play and not task.audit]
        episodes = f" ({min(rests_on)} episodes a task or more)" if rests_on else ""
        yield Caveat(
            "normaliser",
            f"Scores are measured from random play as it was measured here{episodes}, not from the random "
            "return of the source: 0 is that play, 1 is the source's reference. They do not compare with "
            "published scores, and their intervals take random play's mean for known; tables/audit.csv has "
            "its interval.",
        )
    weak = [
        (task, task.random_play.score, task.random_play)
        for task in tasks
        if task.random_play and task.random_play.score is not None and task.random_play.score >= HALF
    ]
    if not weak:
        return
    found = count(len(weak), "task", "tasks")
    if normaliser == "paper":
        text = (
            f"On {found} random play, as measured, reaches half of the reference or more: a score there says "
            "little of skill. --normaliser measured-random measures scores from random play."
        )
    else:
        text = (
            f"On {found} random play, as measured, reaches half of the reference or more by the source's own "
            "references: little lies between 0 and 1 there, so that such scores are noisy, or there is none."
        )
    items = []
    for task, score, played in weak:
        ends = [number(end, 2) for end in (played.score_low, played.score_high) if end is not None]
        items.append(f"{task.id}: {number(score, 2)}{f' [{ends[0]}, {ends[1]}]' if len(ends) == 2 else ''}")
    yield Caveat("random play", text, tuple(items))


def _references(normaliser: Normaliser, tasks: Sequence[TaskEntry]) -> Iterator[Caveat]:
    for reason in dict.fromkeys(task.audit for task in tasks if task.audit):
        concerned = tuple(task.id for task in tasks if task.audit == reason)
        text = count(len(concerned), "task has", "tasks have")
        yield Caveat(
            "reference",
            f"{text} no normalised score, only returns: {reason}.",
            concerned,
        )
    conventional = tuple(task.id for task in tasks if task.domain == "procgen" and task.score_random == 0)
    if conventional and normaliser == "paper":
        yield Caveat(
            "random reference",
            "Procgen's random reference is 0 by the source's convention, not a measured random policy: "
            "compare with the random agent's own score, or measure scores from random play with --normaliser "
            "measured-random.",
            conventional,
        )
    for note in dict.fromkeys(task.note for task in tasks if task.note):
        concerned = tuple(task.id for task in tasks if task.note == note)
        domains = names_up_to(list(dict.fromkeys(task.domain for task in tasks if task.note == note)))
        yield Caveat(
            "score note",
            f"{domains} ({count(len(concerned), 'task', 'tasks')}): {note.rstrip('.')}.",
            concerned,
        )


def _design(tasks: Sequence[TaskEntry], results: Sequence[TaskResult]) -> Iterator[Caveat]:
    splits = {split: sum(task.split == split for task in tasks) for split in ("train", "heldout", "extra")}
    present = [f"{number} {split}" for split, number in splits.items() if number]
    if len(present) > 1:
        yield Caveat(
            "splits",
            f"The aggregates mix tasks of several splits of the paper ({', '.join(present)}): a mean over "
            "training and held-out tasks is neither a training nor a generalisation score; the groups of "
            "tasks tell them apart. A model's own training tasks say what it has seen.",
        )
    # What failed by the agent's own fault is in the numbers, and an agent that has none is not spoken of.
    held = [(r, 0 if r.uncounted else r.scored + r.failed_by_agent) for r in results]
    few = sorted({number for _, number in held if 0 < number < _FEW})
    if few:
        n = f"{few[0]} to {few[-1]}" if len(few) > 1 else str(few[0])
        unit = "episode" if few == [1] else "episodes"
        repeated = [r for r, number in held if number > 1]
        equal = [r for r in repeated if r.mean_return and r.mean_return.note == ALL_EQUAL]
        text = (
            f"n = {n} {unit} a task: intervals of single tasks hold for returns near a normal law only (†)."
        )
        if equal:
            text += (
                f" On {len(equal)} of {count(len(repeated), 'task')} (counted by agent) all episodes gave "
                "the same return. That does not show that there is no noise: such a task has no interval "
                "of its own. In means over tasks it counts without noise, which is right on average where "
                "many tasks are alike, or takes its neighbours' (‡) where it weighs more than all others."
            )
        yield Caveat("few episodes", text, tuple(f"{r.agent} on {r.task}" for r in equal))
    single = tuple(dict.fromkeys(r.task for r, number in held if number == 1))
    if single:
        yield Caveat(
            "single episode",
            f"{count(len(single), 'task has', 'tasks have')} one episode that counts for some agent, and so "
            "no interval; in aggregates the noise of its neighbours stands in (‡), where there is any.",
            single,
        )

"""The section on latency and memory against context: what sweeps of ``lram latency`` measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from lram.harness.latency.folder import LatencyRun
from lram.harness.latency.records import LatencyPlan
from lram.reports import text
from lram.reports.model import Caveat
from lram.reports.section import Section, SectionSettings, SectionSpec
from lram.reports.sections.latency.analysis import FEWEST, INPUTS, summarise
from lram.reports.sections.latency.model import ContextLatency, LatencyResult
from lram.reports.sections.latency.sweeps import COMPUTING, caveats
from lram.reports.sections.latency.tables import tables
from lram.reports.summary.caveats import no_checksums

_KEY = "latency"
_BUSY = 0.25  # cores kept busy by others, from which on a reader is warned
_SPREAD = 1.25  # of process medians, likewise


def section(folders: Sequence[Path], settings: SectionSettings | None = None) -> Section:
    """Return the section on these sweeps.

    Args:
        folders: Each with a ``latency.json``.
        settings: Not used: nothing here is drawn.

    Raises:
        LramError: A folder is no sweep.
    """
    from lram.reports.sections.latency.figures import draw  # loads matplotlib: not where tables are printed

    runs = [LatencyRun(folder) for folder in folders]
    result = summarise(runs)
    unsigned = [f"{run.path.name}: {name}" for run in runs for name in run.without_checksums()]
    return Section(
        key=_KEY,
        title="Latency and memory against context",
        lead=_lead(runs, result),
        tables=tables(runs, result),
        drawings=tuple(draw(result)),
        summary=msgspec.to_builtins(result),
        caveats=(*no_checksums(unsigned, "latency-no-checksums"), *caveats(runs), *_caveats(result)),
        methods=_METHODS,
    )


def _lead(runs: Sequence[LatencyRun], result: LatencyResult) -> tuple[str, ...]:
    plans = [run.plan for run in runs]
    machines = {
        one.gpu if plan.device != "cpu" and one.gpu else one.cpu: None
        for run, plan in zip(runs, plans, strict=True)
        for one in run.provenance()
    }
    versions = {
        f"{name} {version}": None
        for run in runs
        for one in run.provenance()
        for name, version in one.packages.items()
        if name in COMPUTING
    }
    tasks = text.names(dict.fromkeys(plan.task.task.id for plan in plans))
    return (
        f"{text.count(len({s.label for s in result.subjects}), 'agent')} at contexts of "
        f"{text.names(map(str, result.contexts))} timesteps and "
        f"{text.names(_lanes(batch) for batch in result.batches)} that decide together, on recorded "
        f"observations of {tasks}. {_settings(plans)} Machine: {text.names(machines) if machines else '?'}; "
        f"{', '.join(versions)}.",
        "A context is the number of timesteps that an agent has read before the timed decision, each with "
        "its observation, reward and return-to-go: decisions, not raw frames. The headline is the agent "
        "step: observations on the host in, actions on the host out, encoders included. The model step is "
        "the network alone, from embedded tokens to logits; the loop adds one step of the real simulators in "
        "their worker processes.",
        "What this does not show: other processors, other sizes of a model, and how well an agent acts. "
        "Untrained weights take the same time as trained ones. Small differences between agents whose "
        "intervals overlap are no differences.",
    )


def _lanes(batch: int) -> str:
    return text.count(batch, "lane")


def _settings(plans: Sequence[LatencyPlan]) -> str:
    sentences = {
        f"{text.count(plan.repeats, 'process', 'processes')} of each setting, "
        f"{text.count(plan.threads, 'thread')}, {plan.precision} on {plan.device}; "
        + (
            "a Transformer's full cache, or window that it reads anew, is as long as each context needs."
            if plan.windows == "whole"
            else "caches and windows are the models' own."
        ): None
        for plan in plans
    }
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


def _caveats(result: LatencyResult) -> Iterator[Caveat]:
    for note in result.notes:
        yield Caveat("latency-unfinished", f"Latency: {note}.")
    names = {place: one.name for place, one in enumerate(result.subjects)}
    loads = [s.other_cores for s in result.spots if s.other_cores is not None and s.other_cores > _BUSY]
    if loads:
        yield Caveat(
            "latency-load",
            f"Latency: other processes kept up to {max(loads):.1f} cores busy while it was measured; times "
            "of agents that met different neighbours do not compare.",
        )
    middles = [s.agent.median for s in result.spots if s.agent is not None]
    loose = [middle.coverage for middle in middles if middle.low is None]
    if loose:
        held = f"would hold the median {100 * min(loose):.0f} times in 100" if min(loose) else "is one number"
        yield Caveat(
            "latency-processes",
            f"Latency: there are no intervals and no crossovers over fewer than {FEWEST} processes: the "
            f"range of their medians {held} where they are fewest.",
        )
    failed = _named(names, [s for s in result.spots if s.agent is not None and s.failed])
    if failed:
        yield Caveat(
            "latency-failed",
            "Latency: some processes failed or ran out of memory where others did not; the numbers there are "
            "those of the others.",
            failed,
        )
    uneven = _named(names, [s for s in result.spots if s.agent is not None and s.agent.spread > _SPREAD])
    if uneven:
        yield Caveat(
            "latency-spread",
            "Latency: processes with the same settings differ by more than a quarter.",
            uneven,
        )
    differ = _named(names, [s for s in result.spots if s.agree is False])
    if differ:
        yield Caveat(
            "latency-actions", "Latency: processes with the same settings acted differently.", differ
        )
    if found := _named(names, [s for s in result.spots if s.audit == "failed"]):
        yield Caveat(
            "latency-inputs",
            "Latency: some agents decide faster on inputs that they have seen, which a world seldom shows "
            "twice. Their rows are marked, and enter no crossover, no control rate and no figure of times.",
            found,
        )
    unclear = [
        s
        for s in result.spots
        if s.audit != "failed" and s.repeated is not None and not 1 / INPUTS < s.repeated.value < INPUTS
    ]
    if found := _named(names, unclear):
        yield Caveat(
            "latency-inputs-unclear",
            "Latency: decisions on repeated inputs take another time than on new ones, and not in all "
            "processes or not less; look for a machine with a load.",
            found,
        )
    if found := tuple(one.name for one in result.subjects if not one.distinct):
        yield Caveat(
            "latency-shared-inputs",
            "Latency: measured as earlier versions did. A lane later read what another lane had read, and "
            "each context began with the inputs of the one before; decisions on repeated inputs were held "
            "against others at the first context only. An agent that remembers inputs may stand here faster "
            "than it is; 'lram latency' into a new folder shows every input once.",
            found,
        )


def _named(names: dict[int, str], spots: Sequence[ContextLatency]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names[spot.subject] for spot in spots))


_METHODS = (
    (
        "Latency",
        "Each number comes from several fresh processes that ran one after the other in mixed order. A "
        "process reads recorded observations, rewards and actions of a real task up to the context, warms up "
        "until three decisions are within a tenth of each other, and then times single decisions, each on an "
        "observation that the process has not shown before in any lane or at any context: recorded ones with "
        "a number worked into the lowest bits of some pixels and a shift of the image, or into the "
        "coordinates that vary most, within the range that was recorded. At every context, decisions on one "
        "repeated observation are timed in turns with others. Garbage collection is off meanwhile, and a "
        "device is waited for before and after.",
    ),
    (
        "Context of a timed decision",
        "A Transformer is taken back to its context after every decision. A recurrent state continues, one "
        "timestep a decision: its time does not depend on how much it has read.",
    ),
    (
        "Intervals of latencies",
        "Order statistics of the processes' medians: 94% coverage for five processes, at least 95% from six "
        "on, whatever the distribution. Crossovers: the same, of the crossover in each round of processes. "
        f"All of this needs {FEWEST} processes. 'Faster at' is not corrected for the number of pairs.",
    ),
    (
        "Control rates",
        "Exact one-sided bounds (Clopper and Pearson) of the share of late decisions, those of all processes "
        "together; where the processes' shares differ by more than chance, counts are divided by the design "
        "effect. Ready: the upper bound is at most 1%. Late: the lower one is above. Each errs in at most "
        "one case of twenty.",
    ),
)

SPEC = SectionSpec(_KEY, "latency.json", section)

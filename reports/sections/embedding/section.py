"""The section on embeddings: what the hidden states of models tell apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from lram.harness.embedding.folder import MARKER, Embeddings, read
from lram.reports import text
from lram.reports.model import Caveat
from lram.reports.section import Section, SectionSettings, SectionSpec
from lram.reports.sections.embedding.analysis import EmbeddingResult, summarise
from lram.reports.sections.embedding.measures import FEW_TRAJECTORIES, FEWEST
from lram.reports.sections.embedding.tables import tables

KEY = "embedding"


def section(folders: Sequence[Path], settings: SectionSettings | None = None) -> Section:
    """Return the section on the embeddings in ``folders``.

    Args:
        folders: Of 'lram embed'.
        settings: Not used: nothing here is drawn.

    Raises:
        LramError: A folder is none or damaged.
    """
    from lram.reports.sections.embedding.figures import draw  # loads matplotlib

    found = [read(folder) for folder in folders]
    results = [summarise(one) for one in found]
    names = _names(results)
    return Section(
        key=KEY,
        title="What hidden states tell apart",
        lead=[_lead(result) for result in results],
        tables=tables(found, results, names),
        drawings=[
            drawing
            for place, (one, result, called) in enumerate(zip(found, results, names, strict=True))
            for drawing in draw(one, result, called, place)
        ],
        summary=msgspec.to_builtins(results),
        caveats=list(_caveats(found, results)),
        methods=_METHODS,
    )


def _names(results: Sequence[EmbeddingResult]) -> list[list[str]]:
    """Return the models' names as tables print them: with the folder's number where two share one."""
    count = Counter(model.model for result in results for model in result.models)
    return [
        [f"{model.model} ({place})" if count[model.model] > 1 else model.model for model in result.models]
        for place, result in enumerate(results, start=1)
    ]


def _lead(result: EmbeddingResult) -> str:
    return (
        f"{text.count(result.states, 'hidden state')} of "
        f"{text.count(result.trajectories, 'trajectory', 'trajectories')} "
        f"from {text.count(len(result.tasks), 'task')} of "
        f"{text.count(len(result.domains), 'domain')}: what "
        f"{text.names(model.model for model in result.models)} compute at the token that an action is "
        f"read at, from "
        f"windows of at most {text.count(result.context, 'timestep')}. Domains whose observations "
        f"look different "
        "are told apart by any network, also by one of random weights: add such a preset to compare with."
    )


def _caveats(found: Sequence[Embeddings], results: Sequence[EmbeddingResult]) -> Iterator[Caveat]:
    untrained = tuple(m.model for result in results for m in result.models if m.trained is False)
    if untrained:
        yield Caveat("embedding-untrained", "These models have random weights.", untrained)
    loose = any(
        measured.note == FEW_TRAJECTORIES
        for result in results
        for model in result.models
        for one in model.separations
        for measured in (one.neighbours, one.silhouette)
    )
    if loose:
        yield Caveat(
            "embedding-few",
            f"A task has fewer than {FEWEST} trajectories, so what hidden states tell apart has no interval; "
            f"give 'lram embed' {FEWEST} or more of each.",
        )
    if any(one.record.no_umap for one in found):
        reasons = tuple(dict.fromkeys(one.record.no_umap for one in found if one.record.no_umap))
        yield Caveat("embedding-no-umap", "Hidden states are not projected by UMAP.", reasons)


_METHODS = (
    (
        "Hidden states",
        "Of the backbone, after its last norm, at the token that an action is read at. Trajectories "
        "of each task, "
        "and timesteps of each trajectory, are drawn by the seed; each state is computed from a "
        "window of its own.",
    ),
    (
        "Neighbours and silhouettes",
        "A state is compared with states of other trajectories only, since those of its own are near "
        "whatever a "
        "model knows. Means over trajectories of the means of their states. Intervals: the "
        "delete-one jackknife "
        "over trajectories, stratified by task; they hold for these tasks. In simulations of 4 to 20 "
        "trajectories a task, 93 to 97% of the 95% intervals of silhouettes held the truth, and 87 to 100% "
        "of those of neighbours, fewest where nearly all are of their kind. There is none of fewer than "
        f"{FEWEST} trajectories of a task, nor where no trajectory makes a difference (all equal): no noise "
        "was seen, which does not mean that there is none.",
    ),
    (
        "Projections",
        "Principal components of the centred states, without scaling. UMAP with its own defaults, "
        "seeded, on one "
        "thread; other versions of it give other pictures.",
    ),
)

SPEC = SectionSpec(KEY, MARKER, section)

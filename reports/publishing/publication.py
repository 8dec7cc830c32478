"""A publication: built beside its place from what was recorded, and moved there whole."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from lram.agents.places import placed
from lram.envs.scores import Normaliser
from lram.harness.errors import LramError
from lram.harness.storage.json_files import write_json
from lram.harness.storage.run_folder import Run
from lram.reports.comparison.pairs import ALL_OR_NONE, Pairs
from lram.reports.evidence.collect import collect
from lram.reports.publishing.cards import EVAL_RESULTS, CardFacts, card, eval_results
from lram.reports.publishing.checkpoint import evaluated_checkpoint
from lram.reports.publishing.cleaning import Cleaner, without_paths
from lram.reports.publishing.copying import CleanedFile, copy_run, learn
from lram.reports.publishing.manifest import (
    LAYOUT,
    MANIFEST,
    REPORT,
    RUNS,
    Manifest,
    PublishedAgent,
    PublishedCheckpoint,
    PublishedRun,
    digests,
    read_manifest,
)
from lram.reports.summary.summarise import summarise
from lram.reports.writing.export import write_report
from lram.reports.writing.place import check_replaceable, recover, replacing

_BENCHMARK = re.compile(r"(?P<id>[\w.-]+/[\w.-]+):(?P<task>[\w.-]+)", re.ASCII)
_NOT_COPIED = ("logs of workers", "weights of checkpoints")


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """What a user asks for.

    Attributes:
        runs: Folders of evaluations.
        checkpoint: Folder of the weights that a model card is about; None for a card of a data set.
        title: Of the card; empty for one that is made.
        licence: Identifier of the licence; empty for none.
        benchmark: ``ORG/NAME:TASK`` of the hub's benchmark that ``.eval_results`` is for; empty for none.
        seed: Of what is resampled in the report.
        normaliser: Whose references scores have.
        pairs: Agents that the report compares.
    """

    runs: Sequence[Path]
    checkpoint: Path | None = None
    title: str = ""
    licence: str = ""
    benchmark: str = ""
    seed: int = 0
    normaliser: Normaliser = "paper"
    pairs: Pairs = ALL_OR_NONE


def publish(request: PublishRequest, output: str | Path, cleaner: Cleaner | None = None) -> Manifest:
    """Write the publication that ``request`` asks for into ``output``; return its manifest.

    An earlier publication there is replaced as a whole once the new one is complete. Equal records give
    equal bytes.

    Args:
        request: What is published.
        output: Absent, empty, or an earlier publication with nothing else in it.
        cleaner: What takes names and paths out; one that knows this process's user where it is not given.

    Raises:
        LramError: A run is none, is damaged or contradicts another one; two agents have labels that are paths
            and end alike; the checkpoint was not evaluated; a pair names no agent; ``output`` holds something
            else, or cannot be written.
        AgentError: The checkpoint cannot be read.
    """
    benchmark = _benchmark(request)
    runs = _opened(request.runs)
    place = placed(output).resolve()
    _check_apart(place, runs)
    collect(runs, request.normaliser)  # what is damaged or contradicts itself is named where it lies
    checkpoint = evaluated_checkpoint(request.checkpoint, runs) if request.checkpoint else None
    if cleaner is None:
        cleaner = Cleaner(keep=_words(runs))
    for run in runs:
        learn(run, cleaner)
    _check_labels(runs, cleaner)
    try:
        recover(place)
        _check_place(place)
        with replacing(place, lambda former: _check_place(former, place)) as folder:
            return _fill(folder, request, runs, checkpoint, benchmark, cleaner)
    except OSError as error:
        raise LramError(
            f"cannot write the publication to {place}: {error.strerror}; give a folder that can be written"
        ) from error


def _fill(
    folder: Path,
    request: PublishRequest,
    runs: Sequence[Run],
    checkpoint: PublishedCheckpoint | None,
    benchmark: tuple[str, str] | None,
    cleaner: Cleaner,
) -> Manifest:
    cleaned: list[CleanedFile] = []
    copies: list[Run] = []
    for run, name in zip(runs, _names(runs), strict=True):
        cleaned += copy_run(run, folder / RUNS / name, f"{RUNS}/{name}", cleaner)
        copies.append(Run(folder / RUNS / name))
    # A label that is a path has another text in the copies.
    labels = {
        recorded.label: copied.label
        for run, copy in zip(runs, copies, strict=True)
        for recorded, copied in zip(run.plan.agents, copy.plan.agents, strict=True)
    }
    pairs = _in_copies(request.pairs, labels)
    if checkpoint:
        checkpoint = replace(checkpoint, labels=tuple(labels[label] for label in checkpoint.labels))
    write_report(copies, folder / REPORT, seed=request.seed, pairs=pairs, normaliser=request.normaliser)
    published = tuple(_described(run) for run in copies)
    sessions = [session.started for run in copies for session in run.provenance()]
    facts = CardFacts(
        summarise(copies, seed=request.seed, pairs=pairs, normaliser=request.normaliser),
        published,
        checkpoint,
        request.title,
        request.licence,
        min(sessions, default=""),
        sum((Counter(file.changes) for file in cleaned), Counter()),
        frozenset(
            file.name for file in (folder / REPORT / "tables").glob("*.csv") if file.stat().st_size > 0
        ),
    )
    (folder / "README.md").write_bytes(card(facts))
    if benchmark:
        (folder / EVAL_RESULTS).parent.mkdir()
        (folder / EVAL_RESULTS).write_bytes(eval_results(facts, *benchmark))
    manifest = Manifest(
        LAYOUT,
        version("lram-bench"),
        "model" if checkpoint else "dataset",
        published,
        checkpoint,
        tuple(cleaned),
        _NOT_COPIED,
        digests(folder),
    )
    write_json(folder / MANIFEST, manifest)
    return manifest


def _check_labels(runs: Sequence[Run], cleaner: Cleaner) -> None:
    """Raise LramError where two agents would have one label in the copies."""
    seen: dict[str, tuple[str, Run]] = {}
    for run in runs:
        for agent in run.plan.agents:
            clean = cleaner.text(agent.label)
            known, where = seen.setdefault(clean, (agent.label, run))
            if known != agent.label:
                other = "" if where is run else f" of {where.path}"
                raise LramError(
                    f"{run.path}: without names and paths of machines, the agents {agent.label!r} and "
                    f"{known!r}{other} are both called {clean!r}; evaluate one of them again under another "
                    "label (NAME=AGENT)" + ("" if where is run else ", or publish the two runs apart")
                )


def _in_copies(pairs: Pairs, labels: Mapping[str, str]) -> Pairs:
    """Return ``pairs`` by the labels of the copies; ``labels`` has them by those that were recorded."""
    return replace(
        pairs,
        named=tuple((labels.get(one, one), labels.get(other, other)) for one, other in pairs.named),
        baselines=tuple(labels.get(label, label) for label in pairs.baselines),
    )


def _benchmark(request: PublishRequest) -> tuple[str, str] | None:
    if not request.benchmark:
        return None
    if request.checkpoint is None:
        raise LramError(
            "--benchmark is for the card of a model, which has a place for results on benchmarks; add --card "
            "model --checkpoint FOLDER"
        )
    match = _BENCHMARK.fullmatch(request.benchmark)
    if match is None:
        raise LramError(
            f"{request.benchmark!r} is no benchmark of the hub; give ORG/NAME:TASK, the id of a data set "
            "that is registered as a benchmark and of a task in its eval.yaml"
        )
    return match["id"], match["task"]


def _opened(folders: Sequence[Path]) -> list[Run]:
    runs: dict[Path, Run] = {}
    for folder in map(Path, folders):
        for marker, what in _OTHERS.items():
            if (folder / marker).is_file():
                raise LramError(
                    f"{folder} is {what}, and 'lram publish' takes evaluations; name a run's folder"
                )
        runs.setdefault(folder.resolve(), Run(folder))
    if not runs:
        raise LramError("there is nothing to publish; name the folder of a run")
    return list(runs.values())


_OTHERS = {
    "latency.json": "a latency measurement",
    "extrapolation.json": "an extrapolation",
    "study.json": "a study",
    "precision-study.json": "a study of precisions",
    "recipe.toml": "a training run",
    MANIFEST: "a publication already",
}


def _names(runs: Sequence[Run]) -> list[str]:
    """Return a folder name for each run: its own, with a number where an earlier one has it."""
    found: list[str] = []
    for run in runs:
        name = run.path.resolve().name or "run"
        number, wanted = 1, name
        while wanted.casefold() in (other.casefold() for other in found):
            number += 1
            wanted = f"{name}-{number}"
        found.append(wanted)
    return found


def _words(runs: Sequence[Run]) -> list[str]:
    """Return the words of plans that must stay what they are, though a user may be called so."""
    agents = [agent for run in runs for agent in run.plan.agents]
    tasks = [planned.task.id for run in runs for planned in run.plan.tasks]
    # A user whose home folder an agent is called after is no word of a plan.
    names = (*(without_paths(agent.label) for agent in agents), *tasks)
    parts = (part for name in names for part in re.split(r"[^\w-]+", name))
    return [*(agent.spec for agent in agents), *(agent.label for agent in agents), *tasks, *parts]


def _described(run: Run) -> PublishedRun:
    plan = run.plan
    return PublishedRun(
        f"{RUNS}/{run.path.name}",
        plan.seed,
        len(plan.tasks),
        plan.episodes,
        tuple(
            PublishedAgent(
                agent.label,
                agent.info.kind,
                agent.info.description,
                agent.info.trained,
                agent.info.parameters,
                agent.info.digest,
                agent.code,
            )
            for agent in plan.agents
        ),
    )


def _check_apart(place: Path, runs: Sequence[Run]) -> None:
    for run in runs:
        here = run.path.resolve()
        if place == here or place in here.parents:
            raise LramError(f"{place} holds the run {run.path}; publish into another folder")


def _check_place(place: Path, name: Path | None = None) -> None:
    check_replaceable(place, name or place, MANIFEST, "publication", lambda: read_manifest(place).files)

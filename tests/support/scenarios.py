"""Commands that write folders, for trials with faults: what is run, how it continues, what comes out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lram.agents.trajectories import TrajectoryStore
from lram.harness.collection.collect import collected_runs
from lram.harness.latency.folder import LatencyRun
from lram.harness.storage.records import EpisodeRecord, Measured
from lram.harness.storage.run_folder import Run
from lram.harness.studies.folder import StudyFolder
from support.faults import Outcome, Server

Words = Sequence[object]

OUT = "out"
"""What a command's folder is called, in a place of its own: some write beside it first."""


@dataclass(frozen=True)
class Scenario:
    """A command that writes a folder.

    Attributes:
        name: The command's.
        begin: Its words, for a folder.
        resume: Words of what continues the folder (None: the same command does).
        result: What is in the folder at the end, without what depends on the moment.
        prepare: Words of commands that make what it needs, in a folder for all trials.
    """

    name: str
    begin: Callable[[Path, Path], Words]
    resume: Callable[[Path], Words] | None
    result: Callable[[Path], Any]
    prepare: Callable[[Path], Sequence[Words]] = lambda shared: ()


@dataclass(frozen=True)
class Trial:
    """What came of one fault; ``wrong`` is empty where all is well."""

    kind: str
    at: int
    hit: str
    wrong: str


def trial(
    server: Server, scenario: Scenario, shared: Path, place: Path, whole: Any, kind: str, at: int
) -> Trial:
    """Let operation ``at`` of the command, which writes into ``place/out``, meet the fault; continue, and
    compare with ``whole``.
    """
    place.mkdir()
    folder = place / OUT
    first = server.run(*scenario.begin(shared, folder), folder=place, kind=kind, at=at)
    wrong = _ending(first, kind)
    if not wrong:
        again = _continued(server, scenario, shared, folder)
        if again.code != 0:
            wrong = f"cannot be continued: {again.errors[-500:]}"
        elif scenario.result(folder) != whole:
            wrong = "continued, and the result is another one"
        elif left := [entry.name for entry in place.iterdir() if entry != folder]:
            wrong = f"left beside its folder: {left}"
    return Trial(kind, at, first.hit, wrong)


def _ending(outcome: Outcome, kind: str) -> str:
    """Return what is wrong with how the command ended; empty where nothing."""
    if "Traceback" in outcome.errors:
        return f"a traceback: {outcome.errors[-800:]}"
    if kind == "kill":
        return "" if outcome.code == -9 or not outcome.hit else f"not killed: exit code {outcome.code}"
    if outcome.code not in (0, 1, 2):
        return f"exit code {outcome.code}: {outcome.errors[-500:]}"
    if outcome.code == 2 and "lram: " not in outcome.errors:
        return f"no sentence: {outcome.errors[-500:]}"
    return ""


def _continued(server: Server, scenario: Scenario, shared: Path, folder: Path) -> Outcome:
    if scenario.resume is not None:
        resumed = server.run(*scenario.resume(folder))
        if resumed.code == 0:
            return resumed
        assert "Traceback" not in resumed.errors, resumed.errors
    return server.run(*scenario.begin(shared, folder))


def records(run: Run) -> list[EpisodeRecord]:
    """Return the records without what depends on the machine and the moment."""
    assert not run.missing()
    return [replace(one, measured=Measured(0, 0, 0, 0, 0, 0)) for one in run.records()]


def trajectories(store: Path) -> Any:
    """Return what a store holds, by origin, and the records of its runs."""
    opened = TrajectoryStore(store)
    opened.verify()
    held = {}
    for episode in opened.episodes:
        assert episode.origin not in held
        t = opened.trajectory(episode.number)
        arrays = (t.observations, t.actions, t.rewards)
        held[episode.origin] = [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]
    return held, [records(run) for run in collected_runs(store)]


def weights(training: Path) -> str:
    """Return the digest of the weights that a training ended with."""
    return hashlib.sha256((training / "checkpoint" / "model.safetensors").read_bytes()).hexdigest()


def points(sweep: Path) -> Any:
    """Return which points a sweep has and how they ended."""
    run = LatencyRun(sweep)
    assert not run.missing()
    return sorted((repr(point.job), point.context, point.outcome) for point in run.points())


def files(folder: Path) -> dict[str, str]:
    """Return the digest of every file by its name; hidden ones too."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def study(folder: Path) -> Any:
    """Return weights and trajectories of every cell of a study."""
    made = {}
    for cell in StudyFolder(folder).cells():
        assert cell.done() is not None
        made[cell.entry.title] = weights(cell.train), [one.trajectory for one in Run(cell.eval).records()]
    return made


TRAINING = (
    "model.width=16",
    "model.layers=1",
    "model.gru={}",
    "optimizer.updates=4",
    "optimizer.warmup_updates=0",
    "sampling.sequences=2",
    "sampling.context=5",
    "sampling.workers=0",
    "validation.windows=2",
)

_STUDY = """
name = "small"
seeds = [0]

[recipe]
[recipe.model]
width = 16
layers = 1
gru = {}
[recipe.optimizer]
updates = 2
warmup_updates = 0
[recipe.sampling]
sequences = 2
context = 5
workers = 0
[recipe.validation]
windows = 2

[[axes]]
name = "rate"
[[axes.levels]]
name = "low"
changes = {}
[[axes.levels]]
name = "high"
changes = { optimizer.learning_rate = 0.01 }

[[data.collect]]
agents = ["random"]
tasks = ["toy/reach"]
episodes = 3

[evaluation]
tasks = ["toy/reach"]
episodes = 1

[timing]
contexts = [2]
decisions = 2
"""


def _study_file(shared: Path) -> Path:
    file = shared / "study.toml"
    if not file.exists():
        file.write_text(_STUDY)
    return file


def _sets(values: Sequence[str]) -> list[str]:
    return [word for value in values for word in ("--set", value)]


_PLAY = ("-t", "toy/reach,toy/steps", "-n", 2, "-q", "-w", 1)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "eval",
            lambda shared, folder: ("eval", "random", *_PLAY, "-o", folder),
            lambda folder: ("resume", folder, "-q"),
            lambda folder: records(Run(folder)),
        ),
        Scenario(
            "collect",
            lambda shared, folder: ("collect", "random", *_PLAY, "-o", folder),
            lambda folder: ("collect", "--resume", folder, "-q"),
            trajectories,
        ),
        Scenario(
            "train",
            lambda shared, folder: (
                "train", *_sets((f"data.stores={shared / 'store'}", *TRAINING)), "-o", folder
            ),
            lambda folder: ("train", "--resume", folder),
            weights,
            lambda shared: [("collect", "random", "-t", "toy/reach", "-n", 6, "-q", "-o", shared / "store")],
        ),
        Scenario(
            "latency",
            lambda shared, folder: (
                "latency", "random", "-t", "toy/reach", "--contexts", "2,3", "--batch", "1", "--repeats", 1,
                "--quick", "-o", folder,
            ),
            lambda folder: ("latency", "--resume", folder),
            points,
        ),
        Scenario(
            "report",
            lambda shared, folder: ("report", shared / "run", "-o", folder),
            None,
            files,
            lambda shared: [("eval", "random", "constant", *_PLAY, "-o", shared / "run")],
        ),
        Scenario(
            "ablate",
            lambda shared, folder: ("ablate", _study_file(shared), "-o", folder),
            None,
            study,
        ),
    )
}  # fmt: skip

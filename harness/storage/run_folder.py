"""A run's folder: written so that nothing is lost, read so that nothing is trusted blindly.

::

    RUN/
        run.json              the plan (written whole or not at all)
        records/0001.jsonl    one line an episode; each session of the run appends to its own segment
        provenance/0001.json  where that segment was made
        logs/0001/            what its workers printed
        lock                  held while a process writes

A line counts when its newline is in the file: a torn last line, the mark of a process killed while
writing, is not read. A record that errored may be followed by another one, which then counts. Checksums are
verified (:mod:`lram.harness.storage.segments`), and what cannot be of this plan, or contradicts another
record, is refused by name (:mod:`lram.harness.storage.record_checks`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lram.agents.durable import Lock
from lram.envs.scores import Normaliser, normalise, normalised_by
from lram.harness.errors import LramError
from lram.harness.garbage import collection_off
from lram.harness.storage.record_checks import RecordCheck, check_plan, contradict
from lram.harness.storage.record_folder import RecordFolder, RecordWriter
from lram.harness.storage.records import (
    SCHEMA,
    EpisodeRecord,
    Failure,
    Measured,
    Provenance,
    RunPlan,
    WorkItem,
)
from lram.harness.storage.segments import (
    FolderKind,
    WrongRecordError,
    read_records,
)
from lram.harness.words import command

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PLAN_FILE", "Run", "RunWriter", "load_runs"]

PLAN_FILE = "run.json"
EPISODE_COLUMNS = (
    *("agent", "task", "run_seed", "episode", "seed", "protocol", "status", "return", "score", "length"),
    *("success_any", "success_last", "terminated", "truncated", "trajectory", "failures"),
    *("failure_kind", "failure_message", "failed_by_agent", "normaliser"),
)
"""Columns of a report's ``tables/episodes.csv``, with which :meth:`Run.episodes` begins."""
_PARTS = ("records", "provenance", "logs")
_KIND = FolderKind(PLAN_FILE, "a run", "lram resume", _PARTS)


class _Outcome(msgspec.Struct, gc=False):
    """What a record settles and how, read without the rest of it."""

    agent: str
    task: str
    episode: int
    failure: Failure | None


class Run(RecordFolder[RunPlan]):
    """A run that exists on disk, for reading; :class:`RunWriter` adds to it."""

    plan_file = PLAN_FILE
    lacks_plan = f"{{path}} is not a run: it has no {PLAN_FILE}; 'lram eval' makes runs"
    segments = ("records",)

    def __init__(self, path: str | Path) -> None:
        """Read the plan of the run in ``path``; LramError where there is none."""
        if not isinstance(path, str | os.PathLike):
            raise LramError(f"a run is named by its folder, not by a {type(path).__name__}; give its path")
        super().__init__(path, RunPlan, SCHEMA, check_plan)

    def records(self) -> list[EpisodeRecord]:
        """Return the settled items' records, in plan order, one each."""
        return [record for record, _ in self.settled()]

    def settled(self) -> Iterator[tuple[EpisodeRecord, str]]:
        """Yield the settled items' records, in plan order, one each, with the number of its segment."""
        latest: dict[tuple[str, str], dict[int, tuple[EpisodeRecord, str]]] = {}
        texts: dict[str, str] = {}
        check = RecordCheck(self.plan)
        with collection_off():  # all records stay: the collector would look at each again and again
            for found in read_records(self.path / "records", EpisodeRecord, check):
                record = found[0]
                _share(record, texts)
                episodes = latest.setdefault((record.agent, record.task), {})
                before = episodes.get(record.episode)
                if before is not None and contradict(before[0], record):
                    raise LramError(
                        f"{self.path}: {record.item.id} has one result in records/{before[1]}.jsonl and "
                        f"another in records/{found[1]}.jsonl; keep the right line and remove the other"
                    )
                episodes[record.episode] = found
        for pair in self.plan.pairs():
            episodes = latest.pop(pair, {})
            for episode in sorted(episodes):
                yield episodes[episode]

    def missing(self) -> list[WorkItem]:
        """Return the items that have no record yet, in plan order."""
        done = self._outcomes()
        return [
            WorkItem(agent, task, episode)
            for agent, task in self.plan.pairs()
            for episode in range(self.plan.episodes)
            if episode not in done.get((agent, task), ())
        ]

    def outcomes(self) -> Iterator[tuple[WorkItem, Failure | None]]:
        """Yield the settled items, in plan order, each with why it has no score (None: it has one).

        It takes half the time and a tenth of the memory of :meth:`records`.
        """
        done = self._outcomes()
        for agent, task in self.plan.pairs():
            episodes = done.get((agent, task), {})
            for episode in sorted(episodes):
                yield WorkItem(agent, task, episode), episodes[episode]

    def _outcomes(self) -> dict[tuple[str, str], dict[int, Failure | None]]:
        """Return why the last record of each item has no score, by agent label and task id."""
        latest: dict[tuple[str, str], dict[int, Failure | None]] = {}
        place = RecordCheck(self.plan).place

        def check(found: _Outcome) -> None:
            place(found.agent, found.task, found.episode)

        for found, _ in read_records(self.path / "records", _Outcome, check):
            latest.setdefault((found.agent, found.task), {})[found.episode] = found.failure
        return latest

    def origins(self) -> dict[WorkItem, Provenance]:
        """Return where each settled item's record was made; without those of which nothing is known."""
        made = self.sessions()
        return {record.item: made[segment] for record, segment in self.settled() if segment in made}

    def episodes(self, normaliser: Normaliser = "paper") -> pd.DataFrame:
        """Return one row a record, in plan order, with its normalised score.

        The first columns are those of a report's ``tables/episodes.csv``, by the same names
        (:data:`EPISODE_COLUMNS`). ``score`` is not a number where the task has no usable reference, or the
        episode no return. The others are the remaining fields of EpisodeRecord, its times as
        ``measured_*``, and ``domain``; ``episode_return`` is ``return`` by its field's name.

        Args:
            normaliser: Whose random returns the scores are measured from, as of ``lram report``.
        """
        import pandas as pd

        records = self.records()
        columns: dict[str, pd.Series[Any]] = dict.fromkeys(EPISODE_COLUMNS)
        rows = {one.task.id: normalised_by(normaliser, one.task, one.protocol) for one in self.plan.tasks}
        columns["run_seed"] = pd.Series([self.plan.seed] * len(records), dtype="int64")
        columns["return"] = pd.Series([record.episode_return for record in records], dtype="float64")
        columns["score"] = pd.Series(
            [
                None if record.episode_return is None else normalise(rows[record.task], record.episode_return)
                for record in records
            ],
            dtype="float64",
        )
        columns["failed_by_agent"] = pd.Series([record.failed_by_agent for record in records], dtype="bool")
        columns["normaliser"] = pd.Series([normaliser] * len(records), dtype="object")
        for name in (f.name for f in fields(EpisodeRecord) if f.name not in ("measured", "failure")):
            columns[name] = pd.Series([getattr(record, name) for record in records])
        for name in ("kind", "message"):  # by_agent is a part of failed_by_agent
            columns[f"failure_{name}"] = pd.Series([r.failure and getattr(r.failure, name) for r in records])
        for name in (f.name for f in fields(Measured)):
            columns[f"measured_{name}"] = pd.Series([getattr(record.measured, name) for record in records])
        columns["domain"] = pd.Series([record.task.partition("/")[0] for record in records])
        return pd.DataFrame(columns)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: how many episodes of each agent are recorded."""
        from lram.harness.notebook import html_table

        counts = {agent.label: [0, 0] for agent in self.plan.agents}
        planned = Counter(agent for agent, _ in self.plan.pairs())
        try:
            for item, failure in self.outcomes():
                counts[item.agent][failure is not None] += 1
        except LramError as error:
            return html_table(f"run {self.path}", (), (), [str(error)])
        rows = [
            (
                agent.label,
                *counts[agent.label],
                planned[agent.label] * self.plan.episodes - sum(counts[agent.label]),
                agent.info.description,
            )
            for agent in self.plan.agents
        ]
        tasks = f"{len(self.plan.tasks)} tasks, {self.plan.episodes} episodes each, seed {self.plan.seed}"
        missing = any(row[3] for row in rows)
        notes = [f"to continue: {resume_command(self)}"] if missing else []
        header = ("agent", "scored", "errored", "missing", "what it is")
        return html_table(f"run {self.path}: {tasks}", header, rows, notes)

    def tasks(self) -> pd.DataFrame:
        """Return one row a planned task: its facts and the protocol it runs under."""
        import pandas as pd

        rows = []
        for planned in self.plan.tasks:
            row = asdict(planned.task)
            row["sources"] = dict(planned.task.sources)
            rows.append({"task": planned.task.id, **row, "protocol": planned.protocol})
        return pd.DataFrame(rows)


class RunWriter(RecordWriter):
    """The one writer of a run: holds its lock and appends records to a segment of its own."""

    kind = _KIND
    folder_type = Run

    def __init__(self, run: Run, held: Lock | None = None) -> None:
        """Lock ``run``; LramError when another process holds it. The first record opens a new segment.

        ``held`` is the run's lock, where this process has it already.
        """
        super().__init__(run, held)
        self.run = run
        self._check = RecordCheck(run.plan)
        self.segment = self._segments.number

    @classmethod
    def create(cls, path: str | Path, plan: RunPlan) -> RunWriter:
        """Make a new run in ``path`` (absent, empty, or left so by a killed beginning) and lock it."""
        files = {name: source.path for name, source in plan.domain_files.items()}
        return cls._begin(path, plan, plan.interpreters, files=files)

    def append(self, record: EpisodeRecord) -> None:
        """Write one record: the end of this process cannot lose it, and it is on disk soon
        (:mod:`lram.harness.storage.segments` tells when). LramError for one that could not be read again.
        """
        try:
            self._check(record)
        except WrongRecordError as error:
            raise LramError(f"{self.run.path}: {error}") from error
        self._segments.append("records", record)

    def heartbeat(self) -> None:
        """Make sure that what was appended is on disk, where that is due; comes several times a second."""
        self._segments.heartbeat()

    def log_folder(self) -> Path:
        """Return the folder for what this segment's workers print; it exists."""
        return self._segments.folder("logs")

    def _resume(self, folder: Run) -> str:
        return resume_command(folder)


def _share(record: EpisodeRecord, texts: dict[str, str]) -> None:
    """Let ``record`` hold the one copy of the texts that many records have: a third of their memory."""
    for name in ("agent", "task", "protocol"):
        text: str = getattr(record, name)
        # Nothing else knows the record yet, and equal text takes the place of equal text.
        object.__setattr__(record, name, texts.setdefault(text, text))
    node = record.measured.node
    object.__setattr__(record.measured, "node", texts.setdefault(node, node))


def resume_command(run: Run) -> str:
    """Return the command that continues ``run``."""
    if run.plan.collected:
        return command("collect", "--resume", run.path.parent.parent)
    return _KIND.continuing(run.path)


def load_runs(paths: Sequence[str | Path]) -> list[Run]:
    """Open several runs; LramError for the first that is none."""
    return [Run(path) for path in paths]

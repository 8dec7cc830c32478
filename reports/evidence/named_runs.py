"""Runs as a user names them for a report: whole, some of their agents, or under other labels.

``RUN`` is a whole run, ``RUN:AGENT`` one agent of it, ``NEW=RUN:AGENT`` that agent under another label, and
``NEW=RUN`` the same where the run has one agent. Several that name one run are one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lram.harness.errors import LramError
from lram.harness.storage.record_checks import is_name
from lram.harness.storage.records import CHECK_OF, EpisodeRecord, Failure, Provenance
from lram.harness.storage.run_folder import PLAN_FILE, Run

_RELABELLED = re.compile(r"(?P<label>[^=/\\]+)=(?P<rest>.+)", re.DOTALL)


class PartOfRun(Run):
    """Some agents of a run, under labels that may be others than the recorded ones.

    What is read is checked against the run's own plan, as the records have its labels.
    """

    def __init__(self, run: Run, labels: Mapping[str, str]) -> None:
        """Take the agents of ``run`` that are keys of ``labels``, under the labels that are its values."""
        super().__init__(run.path)
        self._whole, self._labels = run, dict(labels)
        plan = run.plan
        self.plan = replace(
            plan,
            agents=tuple(
                replace(agent, label=self._labels[agent.label])
                for agent in plan.agents
                if agent.label in self._labels
            ),
            skipped=tuple(
                replace(skip, agent=self._labels[skip.agent])
                for skip in plan.skipped
                if skip.agent in self._labels
            ),
        )

    def settled(self) -> Iterator[tuple[EpisodeRecord, str]]:
        """Yield the records of these agents, each with the number of its segment."""
        for record, segment in self._whole.settled():
            if (label := self._labels.get(record.agent)) is not None:
                # The message of an earlier version tells the fault by the label that it was recorded under.
                yield replace(record.with_fault_noted(), agent=label), segment

    def sessions(self) -> dict[str, Provenance]:
        """Return where each session was made, with what is known of these agents."""
        return {
            number: replace(
                session,
                compute=self._mine(session.compute),
                raised=self._mine(session.raised),
                sources=self._mine(session.sources),
                settings=self._settings(session.settings),
            )
            for number, session in self._whole.sessions().items()
        }

    def _outcomes(self) -> dict[tuple[str, str], dict[int, Failure | None]]:
        whole = self._whole._outcomes()
        return {
            (self._labels[label], task): found
            for (label, task), found in whole.items()
            if label in self._labels
        }

    def _settings(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Return ``settings`` with the checks of these agents, under their labels, and of no others."""
        checks = {f"{CHECK_OF}{label}": f"{CHECK_OF}{new}" for label, new in self._labels.items()}
        return {
            checks.get(name, name): text
            for name, text in settings.items()
            if name in checks or not name.startswith(CHECK_OF)
        }

    def _mine(self, by_label: Mapping[str, object]) -> dict:  # type: ignore[type-arg]
        return {self._labels[label]: value for label, value in by_label.items() if label in self._labels}


@dataclass(frozen=True, slots=True)
class NamedFolder:
    """What a text names.

    Attributes:
        folder: Of a run, or of records of another kind.
        agent: Label of an agent of it; empty for all.
        label: What it is to be called; empty for what it was recorded as.
    """

    folder: Path
    agent: str = ""
    label: str = ""


def named_folder(text: str | os.PathLike[str]) -> NamedFolder:
    """Return what ``text`` names; a folder that is there is taken as it is.

    Raises:
        LramError: The label or the agent is empty.
    """
    if not isinstance(text, str) or Path(text).is_dir():
        return NamedFolder(Path(text))
    found, label = _with_agent(text), ""
    if found is None and (match := _RELABELLED.fullmatch(text)):
        label, rest = match["label"].strip(), match["rest"]
        found = NamedFolder(Path(rest)) if Path(rest).is_dir() else _with_agent(rest)
        if not is_name(label):
            raise LramError(f"{match['label']!r} cannot label an agent; use printable characters but '|'")
    return replace(found, label=label) if found else NamedFolder(Path(text))


def _with_agent(text: str) -> NamedFolder | None:
    """Return ``FOLDER:AGENT`` taken apart at the first colon behind the folder of a run."""
    for place in (place for place, sign in enumerate(text) if sign == ":"):
        if (Path(text[:place]) / PLAN_FILE).is_file():
            return NamedFolder(Path(text[:place]), text[place + 1 :])
    return None


def open_named(named: Sequence[NamedFolder]) -> list[Run]:
    """Return the runs that are named, each once, in the order in which they are named first.

    Raises:
        LramError: A folder is no run, a run has no such agent or several of which none is named, or two
            agents would have one label in one run, or one two labels.
    """
    by_folder: dict[Path, list[NamedFolder]] = {}
    for one in named:
        by_folder.setdefault(one.folder.resolve(), []).append(one)
    return [_opened(Run(asked[0].folder), asked) for asked in by_folder.values()]


def _opened(run: Run, asked: Sequence[NamedFolder]) -> Run:
    here = [agent.label for agent in run.plan.agents]
    labels: dict[str, str] = {}
    for one in asked:
        if one.agent and one.agent not in here:
            raise LramError(f"{run.path} has no agent {one.agent!r}; it has {', '.join(here)}")
        if one.label and not one.agent and len(here) > 1:
            raise LramError(
                f"{run.path} has {len(here)} agents ({', '.join(here)}), so {one.label!r} could be any of "
                f"them; write {one.label}={run.path}:AGENT"
            )
        for agent in [one.agent] if one.agent else here:
            if one.label and labels.get(agent, agent) not in (agent, one.label):
                raise LramError(
                    f"{agent!r} of {run.path} is named twice, as {labels[agent]!r} and as {one.label!r}; "
                    "name it once"
                )
            # A label that was given stands before that of the whole run.
            if one.label or agent not in labels:
                labels[agent] = one.label or agent
    shown = list(labels.values())
    if double := next((label for label in shown if shown.count(label) > 1), None):
        raise LramError(f"two agents of {run.path} would be called {double!r}; give them other labels")
    return run if labels == {label: label for label in here} else PartOfRun(run, labels)

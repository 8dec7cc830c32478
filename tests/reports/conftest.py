"""Synthetic runs: written by the real store, with returns that a test can know beforehand."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lram.agents.api import AgentInfo
from lram.envs.task import Task
from lram.harness.storage.records import (
    SCHEMA,
    AgentEntry,
    EpisodeRecord,
    Failure,
    Measured,
    PlannedTask,
    Provenance,
    RunPlan,
    Skipped,
    WorkItem,
)
from lram.harness.storage.run_folder import Run, RunWriter
from lram.harness.storage.seeds import simulator_seed

Outcome = float | tuple[float, bool, bool] | Failure | None
"""A return; with success at any and at the last step; a failure; or None for no record."""


class Synthetic:
    """Makes tasks, agents, plans, records and runs; every argument that a test may care about shows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runs = 0

    @staticmethod
    def task(task_id: str, random: float | None = 0.0, reference: float | None = 1.0, **more) -> Task:
        domain, _, name = task_id.partition("/")
        facts = {
            "split": "train",
            "horizon": 200,
            "observation": "vector",
            "observation_size": 39,
            "action": "continuous",
            "action_size": 4,
            "target_return": None,
            "reward_scale": 1.0,
            "score_kind": "human" if domain == "atari" else "data",
            "sources": (("score", "synthetic"),),
            **more,
        }
        return Task(domain=domain, name=name, score_random=random, score_reference=reference, **facts)

    @staticmethod
    def agent(label: str, trained: bool | None = True, digest: str = "", **more) -> AgentEntry:
        info = AgentInfo(
            kind="baseline" if trained is None else "model",
            description=more.pop("description", f"{label}, synthetic"),
            trained=trained,
            parameters=None if trained is None else 16_000_000,
            digest=digest or f"{zlib.crc32(label.encode()):08x}",
        )
        return AgentEntry(label, more.pop("spec", f"spec:{label}"), info)

    @staticmethod
    def plan(
        agents: Iterable[AgentEntry],
        tasks: Iterable[Task],
        episodes: int,
        seed: int = 0,
        skipped: Iterable[Skipped] = (),
        protocol: str = "lram@1",
    ) -> RunPlan:
        planned = tuple(PlannedTask(task, f"{task.domain}:{protocol}") for task in tasks)
        return RunPlan(SCHEMA, seed, episodes, tuple(agents), planned, tuple(skipped))

    @staticmethod
    def record(plan: RunPlan, item: WorkItem, outcome: Outcome, wall_s: float = 1.0) -> EpisodeRecord:
        failure = outcome if isinstance(outcome, Failure) else None
        value, any_step, last_step = outcome if isinstance(outcome, tuple) else (outcome, None, None)
        protocol = {planned.task.id: planned.protocol for planned in plan.tasks}[item.task]
        return EpisodeRecord(
            schema=SCHEMA,
            agent=item.agent,
            task=item.task,
            episode=item.episode,
            seed=simulator_seed(plan.seed, item.task, item.episode),
            protocol=protocol,
            status="errored" if failure else "scored",
            episode_return=None if failure else value,
            length=None if failure else 200,
            success_any=any_step,
            success_last=last_step,
            terminated=False,
            truncated=not failure,
            trajectory="" if failure else f"{zlib.crc32(f'{item.id}{value}'.encode()):08x}",
            failures=0,
            failure=failure,
            measured=Measured(1.7e9, wall_s, 0.4 * wall_s, 0.5 * wall_s, 0, 4711),
        )

    def run(
        self,
        plan: RunPlan,
        outcome: Callable[[WorkItem], Outcome],
        name: str = "",
        order: Callable[[Sequence[WorkItem]], Sequence[WorkItem]] = list,
        segments: int = 1,
        computes: Sequence[dict[str, dict[str, str]]] = (),
        workers: Sequence[dict[str, dict[str, str]]] = (),
    ) -> Run:
        """Write a run whose records come in ``order``, in ``segments`` that compute and play as told."""
        self._runs += 1
        path = self.folder / (name or f"run-{self._runs}")
        items = list(order(plan.items()))
        RunWriter.create(path, plan).close()
        for number, part in enumerate(np.array_split(np.arange(len(items)), segments)):
            with RunWriter(Run(path)) as writer:
                compute = computes[number] if computes else {}
                provenance = replace(self.provenance(), compute=compute)
                if workers:
                    provenance = replace(provenance, workers=workers[number])
                writer.write_provenance(provenance)
                for place in part:
                    result = outcome(items[place])
                    if result is not None:
                        writer.append(self.record(plan, items[place], result))
        return Run(path)

    @staticmethod
    def provenance() -> Provenance:
        return Provenance(
            started="2026-01-05T12:00:00Z",
            command="lram eval --tasks demo8 --episodes 3",
            python="3.11.9",
            platform="Linux-6.1-x86_64",
            cpu="Example CPU 2.0 GHz",
            cores=8,
            memory_gib=31.2,
            gpu="",
            git="de7f41b+changes",
            packages={"numpy": "1.26.4", "torch": "2.13.0"},
            workers={"atari": {"ale-py": "0.12.0"}},
            settings={"lanes": "8"},
        )

    def study(self, episodes: int = 3, per_domain: int = 2, agents: int = 6, **how) -> Run:
        """Write a run as a researcher would have it: several domains, agents and accidents."""
        note = (("score", "synthetic"), ("score_note", "references were measured on v2, runs use v3"))
        names = {
            "metaworld": ["reach-v3", "drawer-open-v3"],
            "dmcontrol": ["cartpole-balance", "cheetah-run"],
            "procgen": ["coinrun", "starpilot"],
            "atari": ["freeway", "breakout"],
        }
        tasks = [
            self.task(
                f"{domain}/{known[i] if i < len(known) else f'{known[0]}-{i:03d}'}",
                random=2.0,
                reference=None if domain == "atari" and i == per_domain - 1 and per_domain > 2 else 100.0 + i,
                sources=note if domain == "metaworld" else (("score", "synthetic"),),
            )
            for domain, known in names.items()
            for i in range(per_domain)
        ]
        entries = [
            self.agent("xlstm-7-1-16m"),
            self.agent("mamba-16m"),
            self.agent("transformer-16m"),
            self.agent("xlstm-1-0-16m", trained=False),
            self.agent("random", trained=None),
            self.agent("expert", trained=None),
        ][:agents]
        skipped = [
            Skipped("expert", task.id, "the scripted expert plays Meta-World only")
            for task in tasks
            if task.domain != "metaworld" and agents > 5
        ]
        level = {
            entry.label: value
            for entry, value in zip(entries, (0.8, 0.75, 0.6, 0.05, 0.0, 1.0), strict=False)
        }

        def outcome(item: WorkItem) -> Outcome:
            generator = np.random.default_rng(zlib.crc32(item.id.encode()))
            ease = np.random.default_rng(zlib.crc32(item.task.encode())).uniform(0.4, 1.3)
            if item.agent == "mamba-16m" and item.task == "procgen/coinrun" and item.episode == 1:
                return Failure("crash", "worker died (signal 11)")
            if item.agent == "transformer-16m" and item.task == "atari/freeway" and item.episode == 2:
                return None
            value = float(2 + 100 * (ease * level[item.agent] + 0.15 * generator.normal()))
            if not item.task.startswith("metaworld"):
                return value
            any_step = bool(generator.uniform() < level[item.agent] * ease)
            return value, any_step, any_step and bool(generator.uniform() < 0.7)

        return self.run(self.plan(entries, tasks, episodes, skipped=skipped), outcome, **how)


@pytest.fixture(scope="session")
def make_synthetic() -> type[Synthetic]:
    return Synthetic


@pytest.fixture
def no_figures() -> Iterator[None]:
    """Figures are made, but not drawn: their files hold their names."""
    from support.undrawn import undrawn

    with undrawn():
        yield


@pytest.fixture
def no_figures_but_svg() -> Iterator[None]:
    """Of the three files of a figure the SVG is drawn, which is on the page, too."""
    from support.undrawn import undrawn

    with undrawn(svg=True):
        yield


@pytest.fixture
def synthetic(tmp_path: Path) -> Synthetic:
    return Synthetic(tmp_path)

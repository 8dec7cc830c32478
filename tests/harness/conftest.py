"""A data folder of a test's own, a domain of another package that it can write as it likes, and a cluster."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from support.ready import ready_children, ready_nodes, ready_simulators

from lram.envs import registry

_MODULE = """
import numpy as np

from lram.envs.session import Domain, EvaluationProtocol, InterpreterRecipe, SourceTree, Step
from lram.envs.simulator import SimulatorSession, vector_spec
from lram.envs.task import Task


class Custom(SimulatorSession):
    def __init__(self, name):
        super().__init__("custom/" + name, vector_spec(1, "continuous", 1), limit=10)
        self._kind = name
        self._resets = 0
        self._last = None
        {made}

    def _begin(self, seed):
        self._resets += 1
        self._place = float(seed % 7) + (self._resets if self._kind == "forgetful" else 0.0)
        if self._kind == "haunted" and self._last not in (None, seed):
            self._place += 1.0
        self._last = seed
        return np.array([self._place], np.float32)

    def _advance(self, action):
        drift = self._resets if self._kind == "drifting" else 1.0
        self._place += drift * float(action[0])
        return Step(np.array([self._place], np.float32), 0.0, False, False, None, 0.0)


def task(name):
    return Task("custom", name, "extra", 10, "vector", 1, "continuous", 1, 1.0, 1.0)


DOMAIN = Domain(
    name="custom",
    protocols=({protocols}),
    make=lambda name, protocol: Custom(name),
    requires={requires},
    install="custom-domain",
    packages=("numpy",),
    tasks=tuple(map(task, {tasks})),
    sources=({sources}),
    interpreter={recipe},
)
"""


class Custom:
    """Another package's domain ``custom``, on the path of this process and of those that it starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gadget = folder.parent / "checkout"

    def write(
        self,
        *,
        sources: str = "",
        # The Pythons of toy's recipe, since toy's packages may be linked into it.
        recipe: str = "InterpreterRecipe(('numpy==1.26.4',), ('3.11', '3.12', '3.10', '3.9'), resolve=False)",
        tasks: tuple[str, ...] = ("steady",),
        requires: tuple[str, ...] = (),
        protocols: str = "EvaluationProtocol('plain', 1, 'As it is.'),",
        made: str = "",
    ) -> None:
        """Write the module; a caller gives what it is about, as Python text where it is not plain."""
        text = _MODULE.format(
            sources=sources,
            recipe=recipe,
            tasks=tasks,
            requires=requires,
            protocols=protocols,
            made=made or "pass",
        )
        (self.folder / "custom_domain.py").write_text(text)
        announced = self.folder / "custom_domain-1.0.dist-info"
        announced.mkdir(exist_ok=True)
        (announced / "METADATA").write_text("Metadata-Version: 2.1\nName: custom-domain\nVersion: 1.0\n")
        (announced / "entry_points.txt").write_text("[lram.domains]\ncustom = custom_domain:DOMAIN\n")
        forget()


def forget() -> None:
    """Let the registry look for domains again."""
    sys.modules.pop("custom_domain", None)
    for function in (registry._entry_points, registry.load_domain, registry.all_tasks):
        function.cache_clear()


READY_SIMULATORS = {
    "test_ablation",
    "test_cli",
    "test_cli_export",
    "test_cli_publish",
    "test_cli_train",
    "test_closing",
    "test_cluster",
    "test_cluster_ablate",
    "test_cluster_files",
    "test_cluster_jobs",
    "test_cluster_latency",
    "test_collect",
    "test_contract",
    "test_domain_files",
    "test_evaluate",
    "test_evaluation_files",
    "test_exit_codes",
    "test_extrapolation",
    "test_faults",
    "test_film",
    "test_forecast",
    "test_gate",
    "test_groups",
    "test_gym",
    "test_hardness",
    "test_labels",
    "test_latency_inputs",
    "test_latency_subject",
    "test_latency_sweep",
    "test_launched",
    "test_own_code",
    "test_paper",
    "test_policies_page",
    "test_precision_study",
    "test_public",
    "test_realtime",
    "test_references",
    "test_replay",
    "test_rollout",
    "test_run_damage",
    "test_serving",
    "test_shipped_scores",
    "test_tracking",
    "test_watch",
}
"""Modules that start many workers, and where nothing depends on how a new interpreter begins."""


@pytest.fixture(scope="module", autouse=True)
def _ready_simulators(request: pytest.FixtureRequest) -> Iterator[None]:
    with ready_simulators() if request.path.stem in READY_SIMULATORS else nullcontext():
        yield


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder."""
    monkeypatch.setenv("LRAM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def custom(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Custom]:
    """The writer of the domain ``custom``, beside an empty data folder."""
    folder = tmp_path / "custom"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    yield Custom(folder)
    monkeypatch.undo()
    forget()


@pytest.fixture(scope="session")
def shallow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checkpoints by kind: of two blocks, as wide as the smallest presets, whose passes have their shapes."""
    from lram.agents.backbones.mamba import MambaConfig
    from lram.agents.backbones.transformer import TransformerConfig
    from lram.agents.backbones.xlstm import XLSTMConfig
    from lram.agents.checkpoints.folder import save_checkpoint
    from lram.agents.model.config import ModelConfig
    from lram.agents.model.network import build_model

    made = {}
    for name, backbone in {
        "xlstm": XLSTMConfig(slstm_at=(1,)),
        "mamba": MambaConfig(),
        "transformer": TransformerConfig(heads=4, positions="rotary", window=150, cache="ring"),
    }.items():
        config = ModelConfig(96, 2, backbone=backbone)
        folder = tmp_path_factory.mktemp("shallow") / name
        save_checkpoint(folder, build_model(config, 0), config, trained=False, card={})
        made[name] = str(folder)
    return made


@pytest.fixture(scope="module")
def checked_once() -> Iterator[None]:
    """A gate that finds of a model what it has found of the same weights, computed alike, in this module."""
    import torch

    from lram.agents.checks import equivalence

    check, found = equivalence.model_checks, {}

    def once(model: Any) -> list[Any]:
        facts = (model.info.digest, model.info.details, torch.get_num_threads())
        if facts not in found or not model.info.digest:
            found[facts] = check(model)
        return found[facts]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equivalence, "model_checks", once)
        yield


_SETTINGS = {
    # A node that was killed is missed after five refused connections: in three seconds, not in fifteen. One
    # that is only slow has ten seconds for each answer, as ever.
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    # Ray makes its workers so nice (15) that a test beside them leaves them a thirtieth of a core.
    "worker_niceness": 0,
}
"""Of Ray, for all nodes."""


class TwoNodes:
    """A head and a second node, each with one core, as two machines would be."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster()
        self._start(include_dashboard=False, no_monitor=True, _system_config=_SETTINGS)
        self.address: str = self._cluster.address
        self.second = self.add()

    def add(self) -> Any:
        """Add a node with one core."""
        return self._start()

    def _start(self, **more: Any) -> Any:
        with ready_nodes() as setup:
            return self._cluster.add_node(
                num_cpus=1,
                object_store_memory=100 << 20,
                setup_worker_path=setup,
                include_log_monitor=False,
                **more,
            )

    def kill(self, node: Any) -> None:
        """End a node as a power cut would: its raylet first, by SIGKILL."""
        os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)

    def mend(self) -> None:
        """Let there be two nodes again."""
        raylets = self.second.all_processes["raylet"]
        if not raylets or raylets[0].process.poll() is not None:
            self._cluster.remove_node(self.second, allow_graceful=False)
            self.second = self.add()

    def simulators(self) -> dict[int, int]:
        """Return the process that plays a job, by each of the simulators' processes that it has started."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if b"lram.envs.workers.worker" in words:
                    job = int(words[words.index(b"--parent") + 1])
                    if (
                        not Path(f"/proc/{job}").exists()
                        or b"ray::" in Path(f"/proc/{job}/cmdline").read_bytes()
                    ):
                        found[int(folder.name)] = job
            except OSError:
                continue
        return found

    def close(self) -> None:
        """End all of it."""
        self._cluster.shutdown()


@contextmanager
def _connected_nodes() -> Iterator[TwoNodes]:
    """Two nodes and a connection to them, which answers all who connect and part meanwhile.

    A connection has processes of its own on the nodes: a test that came with a new one would wait for those.
    """
    import ray

    with pytest.MonkeyPatch.context() as patch, ready_children():
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = TwoNodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="CRITICAL")
        shutdown = ray.shutdown
        patch.setattr(ray, "is_initialized", lambda: False)
        patch.setattr(ray, "init", _connect_again(cluster.address))
        patch.setattr(ray, "shutdown", lambda *_, **__: None)
        yield cluster
        shutdown()
    cluster.close()


def _connect_again(address: str) -> Callable[..., None]:
    def init(*, address: str = address, **_: object) -> None:
        assert address == known, "another cluster than the tests' own"

    known = address
    return init


class _SharedNodes:
    """The nodes of all modules on clusters, which follow one another in one process."""

    def __init__(self) -> None:
        self._stack: ExitStack | None = None
        self._nodes: TwoNodes | None = None

    def get(self) -> TwoNodes:
        """Return the nodes, started by the first who asks."""
        if self._nodes is None:
            self._stack = ExitStack()
            self._nodes = self._stack.enter_context(_connected_nodes())
        return self._nodes

    def close(self) -> None:
        """End them: other tests are not to run beside Ray's threads, which a fork may inherit locked."""
        stack, self._stack, self._nodes = self._stack, None, None
        if stack is not None:
            stack.close()


_SHARED = _SharedNodes()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the nodes with the last test that may use them."""
    if nextitem is None or not nextitem.path.stem.startswith("test_cluster"):
        _SHARED.close()


@pytest.fixture
def cluster() -> TwoNodes:
    """Two nodes, whatever the test before has done to them."""
    nodes = _SHARED.get()
    nodes.mend()
    return nodes

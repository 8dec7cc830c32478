"""A study on two nodes of a Ray cluster, with and without a folder that all see: the cells of one machine."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.ready import ready_children, ready_driver

from lram.agents.checkpoints.folder import load_checkpoint
from lram.agents.trajectories import TrajectoryStore
from lram.harness import LramError, Machine
from lram.harness.collection.collect import collect, collected_runs
from lram.harness.executors.ray import RayExecutor, ResourceRequest
from lram.harness.executors.ray.cell_files import CellFiles
from lram.harness.executors.ray.node import scratch
from lram.harness.storage.records import Measured
from lram.harness.studies import running
from lram.harness.studies.folder import CellFolder, StudyFolder
from lram.harness.studies.running import ablate
from lram.harness.studies.study import Study, read_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # two clusters' processes on two cores
pytest.importorskip("ray", reason="Ray is not installed: pip install 'lram-bench[ray]'")

STUDY = """
name = "tiny"
question = "Does the study run?"
seeds = [0]
[recipe.model]
width = 16
layers = 2
xlstm = { heads = 2, slstm_at = [] }
[recipe.data]
validation_share = 0.3
[recipe.sampling]
context = 5
sequences = 3
[recipe.optimizer]
updates = 30
warmup_updates = 5
learning_rate = 1e-3
[recipe.validation]
windows = 8
[recipe.saving]
state_updates = 5
trackers = []
[[axes]]
name = "past actions"
[[axes.levels]]
name = "off"
[[axes.levels]]
name = "on"
changes = { model.actions_in_context = true }
[data]
stores = ["store"]
[evaluation]
tasks = ["toy/reach"]
episodes = 2
[timing]
contexts = [10]
batch = [1]
decisions = 5
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    collect("random", "toy/reach", folder / "store", episodes=6, machine=Machine(workers=1))
    (folder / "tiny.toml").write_text(STUDY)
    return read_study(folder / "tiny.toml")


@pytest.fixture(scope="module")
def local(study: Study, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    with ready_children():
        opened, failed = ablate(study, tmp_path_factory.mktemp("local") / "study")
    assert not failed, failed
    return opened


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """No node sees the driver's files."""
    seen = CellFiles._view
    monkeypatch.setattr(CellFiles, "_view", lambda self, reference: (False, seen(self, reference)[1]))


def executor(cluster: Any, **request: Any) -> RayExecutor:
    return RayExecutor(cluster.address, ResourceRequest(**request), lambda line: None)


def content(cell: CellFolder) -> tuple[object, ...]:
    """Return what of a cell does not depend on times and places."""
    run, copies, times, done = cell.run(), cell.copies(), cell.times(), cell.done()
    assert run is not None
    assert times is not None
    assert done is not None
    blank = Measured(0, 0, 0, 0, 0, 0)
    lines = [json.loads(line) for line in (cell.train / "metrics.jsonl").read_text().splitlines()]
    return (
        cell.entry.key,
        cell.entry.folder,
        load_checkpoint(cell.checkpoint)[1].digest,
        [replace(record, measured=blank) for record in run.records()],
        [(task.task, task.protocol) for task in run.plan.tasks],
        copies,
        [(point.batch, point.context, len(point.ms), point.state_bytes) for point in times.points],
        times.step,
        (done.key, done.title, done.parameters, set(done.seconds)),
        [(line["update"], line.get("loss")) for line in lines],
    )


def same(one: StudyFolder, other: StudyFolder) -> None:
    assert [content(cell) for cell in one.cells()] == [content(cell) for cell in other.cells()]


def test_nodes_without_the_drivers_files_make_the_cells_of_one_machine(
    study: Study, local: StudyFolder, tmp_path: Path, cluster: Any, apart: None
) -> None:
    said: list[str] = []
    opened, failed = ablate(study, tmp_path / "study", say=said.append, executor=executor(cluster))
    assert not failed, failed
    same(opened, local)
    assert opened.plan == local.plan
    hosts = {line.rpartition("(")[2].partition(")")[0] for line in said if "make took" in line}
    assert len(hosts) == 2, said
    assert sum(line.startswith("sending ") for line in said) == 1, "stores are sent to both nodes at once"
    for cell in opened.cells():
        run = cell.run()
        assert run is not None
        assert run.plan.agents[0].spec == str(cell.checkpoint.resolve())
        texts = [file for file in cell.path.rglob("*") if file.suffix in (".json", ".toml", ".txt")]
        assert len(texts) > 8
        assert not [file for file in texts if "lram-cluster" in file.read_text()]
        assert str(study.data.stores[0]) in (cell.train / "recipe.toml").read_text()
    assert not list((tmp_path / "study" / "cells").glob(".*"))
    again: list[str] = []
    ablate(study, tmp_path / "study", say=again.append, executor=executor(cluster))
    assert again[0].startswith("2 cells: ")
    assert again[1:] == ["2 of 2 cells made already"]


def test_data_are_collected_on_the_cluster(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = STUDY.replace('stores = ["store"]', 'collect = [{agents = ["random"], tasks = ["toy/reach"]}]')
    (tmp_path / "tiny.toml").write_text(text)
    monkeypatch.setattr(running, "_work", lambda *arguments: [])
    opened, _ = ablate(read_study(tmp_path / "tiny.toml"), tmp_path / "study", executor=executor(cluster))
    [store] = opened.plan.stores
    assert len(TrajectoryStore(store).episodes) == 10
    [run] = collected_runs(store)
    assert run.provenance()[0].settings["backend"] == "ray"


def test_nodes_that_see_the_folder_work_in_it(
    study: Study, local: StudyFolder, tmp_path: Path, cluster: Any
) -> None:
    said: list[str] = []
    opened, failed = ablate(study, tmp_path / "study", jobs=1, say=said.append, executor=executor(cluster))
    assert not failed, failed
    same(opened, local)
    assert not [line for line in said if line.startswith("sending ")]
    assert not list((tmp_path / "study").glob(".*"))


def wait_for(condition: Callable[[], object], what: str, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


DRIVER = """
import sys
from lram.harness.studies.running import ablate
from lram.harness.studies.study import read_study
from lram.harness.executors.ray import RayExecutor
from lram.harness.executors.ray.cell_files import CellFiles
study, folder, address, sees = sys.argv[1:]
if sees == "no":
    seen = CellFiles._view
    CellFiles._view = lambda self, reference: (False, seen(self, reference)[1])
say = lambda line: print(line, flush=True)
_, failed = ablate(read_study(study), folder, say=say, executor=RayExecutor(address))
assert not failed, failed
"""


@pytest.mark.parametrize("sees", ["yes", "no"])
def test_nodes_and_drivers_that_are_killed_cost_no_more_than_a_cells_last_part(
    study: Study, local: StudyFolder, tmp_path: Path, cluster: Any, sees: str
) -> None:
    folder, file = tmp_path / "study", tmp_path / "tiny.toml"
    file.write_text(STUDY.replace('"store"', f'"{study.data.stores[0]}"'))
    command = [*ready_driver(), "-c", DRIVER, str(file), str(folder), cluster.address, sees]
    place = folder if sees == "yes" else scratch() / "studies"

    def states() -> set[Path]:
        return set(place.rglob("cells/*/train/state/update*"))

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    before = states()
    first = begin()
    assert first.stdout is not None
    wait_for(lambda: len({one.parents[2] for one in states() - before}) == 2, "both cells to save a state")
    cluster.kill(cluster.second)
    told = []
    for line in first.stdout:
        told.append(line)
        if "was lost with its process" in line:
            break
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert "was lost with its process" in told[-1], told
    assert not all(cell.done() for cell in StudyFolder(folder).cells())
    second = begin()
    output, _ = second.communicate(timeout=400)
    assert second.returncode == 0, output
    same(StudyFolder(folder), local)
    logs = "".join((cell.path / "log.txt").read_text() for cell in StudyFolder(folder).cells())
    assert logs.count("update 0/30") == 2, "a training was begun again"


def test_a_cell_that_fails_is_told_with_its_log(
    study: Study, local: StudyFolder, tmp_path: Path, cluster: Any, apart: None
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(local.path, folder)
    broken, whole = StudyFolder(folder).cells()
    for cell in (broken, whole):
        (cell.path / "done.json").unlink()
    (broken.path / "timing.json").unlink()
    (broken.path / "copycat.json").unlink()
    (broken.checkpoint / "model.safetensors").write_bytes(b"no weights")
    before = (broken.path / "log.txt").read_text()
    opened, failed = ablate(study, folder, executor=executor(cluster))
    assert [one.cell.entry.title for one in failed] == ["off, seed 0"]
    assert "model.safetensors is damaged or incomplete" in failed[0].reason
    log = (broken.path / "log.txt").read_text()
    assert log.startswith(before)
    assert failed[0].reason in log
    assert str(folder) in failed[0].reason, "the node's copy is told as the driver's folder"
    assert opened.cells()[1].done() is not None


def test_wishes_that_no_cell_can_have_are_one_sentence(study: Study, tmp_path: Path, cluster: Any) -> None:
    with pytest.raises(LramError, match="--job-cpus takes a number here"):
        ablate(study, tmp_path / "study", executor=executor(cluster, cpus={"toy": 2}))
    assert not (tmp_path / "study").exists()
    with pytest.raises(LramError, match=r"a cell asks for 64 cores.*no node has that"):
        ablate(study, tmp_path / "study", executor=executor(cluster, cpus={"": 64}))

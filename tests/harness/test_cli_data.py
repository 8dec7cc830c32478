"""``lram data``: importing, looking at a store, verifying it, through the command line."""

from __future__ import annotations

import errno
import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.ready import ready_python

from lram.agents.api import AgentError
from lram.agents.trajectories import StoreWriter, TrajectoryStore
from lram.agents.trajectories.folder import StoreFolder
from lram.agents.trajectories.readers import Shapes
from lram.envs import registry
from lram.harness.cli import app
from lram.harness.collection import importing
from lram.harness.collection.importing import ImportTasks
from lram.harness.errors import LramError


def lram_task(folder: Path, lengths: list[int], width: int = 39, size: int = 4) -> Path:
    """Write a task's folder as the reference implementation does; every action is held for two steps."""
    folder.mkdir(parents=True)
    for number, length in enumerate(lengths):
        rng = np.random.default_rng(number)
        with h5py.File(folder / f"{number}.hdf5", "w") as file:
            file["states"] = rng.normal(size=(length, width)).astype(np.float32)
            file["actions"] = np.repeat(rng.choice([-0.5, 0.5], (length, size)), 2, axis=0)[:length]
            file["rewards"] = np.ones(length, np.float32)
            file["returns_to_go"] = np.arange(length, 0, -1, dtype=np.float32)
            file["dones"] = True
    (folder / "episode_lengths.json").write_text(
        json.dumps({str(number): float(length) for number, length in enumerate(lengths)})
    )
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    lram_task(tmp_path / "source" / "reach-v2", [200, 8])
    lram_task(tmp_path / "source" / "cartpole-balance", [10], width=204, size=1)
    return tmp_path / "source"


def lram(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run the command line in this process; bad input raises as it does before it becomes a sentence."""
    code = app([str(argument) for argument in arguments], exit_on_error=False, result_action="return_value")
    return code or 0, capsys.readouterr().out


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_import_finds_our_tasks_behind_the_references_names(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--policy", "SAC", "--licence", "MIT")
    code, output = lram(capsys, "data", "import", source, "-o", tmp_path / "store", *arguments)
    assert code == 0
    assert "imported: 3 episodes, 218 steps" in output
    store = TrajectoryStore(tmp_path / "store")
    assert set(store.tasks) == {"metaworld/reach-v3", "dmcontrol/cartpole-balance"}
    assert store.tasks["metaworld/reach-v3"].reward_scale == 200
    assert {episode.policy for episode in store.episodes} == {"SAC"}
    # 200 decisions are Meta-World's limit of time, not an end of the task.
    assert [(e.terminated, e.truncated) for e in store.episodes if e.task == "metaworld/reach-v3"] == [
        (False, True),
        (True, False),
    ]
    (addition,) = store.card["additions"]
    assert (addition["license"], addition["source"], addition["format"]) == ("MIT", "source", "lram")
    assert str(tmp_path) not in (tmp_path / "store" / "card.json").read_text()


def test_import_again_adds_nothing(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lram(capsys, "data", "import", source, "-o", tmp_path / "store", "--limit", 1)
    digest = TrajectoryStore(tmp_path / "store").digest
    _, output = lram(capsys, "data", "import", source, "-o", tmp_path / "store", "--limit", 1)
    assert "imported: 0 episodes" in output
    assert "already there: 2 episodes" in output
    assert TrajectoryStore(tmp_path / "store").digest == digest
    report = json.loads(lram(capsys, "data", "import", source, "-o", tmp_path / "store", "--json")[1])
    assert (report["episodes"], report["already_there"]) == (1, 2)


def test_import_again_under_another_name_or_path_is_said_or_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, store = tmp_path / "data" / "raw", tmp_path / "store"
    lram_task(folder, [5, 6])

    def filed(source: Path, task: str, *more: object) -> int:
        task_of_its_own = ("--task", task, "--reward-scale", 1)
        return lram(capsys, "data", "import", source, "-o", store, *task_of_its_own, *more)[0]

    assert filed(folder, "mine/wrong") == 0
    with pytest.raises(LramError, match="already, as an episode of mine/wrong by nobody known; to file it"):
        filed(folder, "mine/right")
    with pytest.raises(LramError, match="by nobody known; to file it under mine/wrong by me, import"):
        filed(folder, "mine/wrong", "--policy", "me")
    # The same files, by way of the folder above.
    assert filed(folder.parent, "mine/wrong") == 0
    assert len(TrajectoryStore(store)) == 2


def test_import_of_selected_tasks(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lram(capsys, "data", "import", source, "-o", tmp_path / "store", "--tasks", "dmcontrol")
    assert set(TrajectoryStore(tmp_path / "store").tasks) == {"dmcontrol/cartpole-balance"}


def test_a_bad_file_stops_an_import_and_what_came_before_is_in_a_valid_store(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_short(source / "reach-v2" / "1.hdf5")
    with pytest.raises(LramError, match=r"1\.hdf5 is no whole HDF5 file .*the 2 episodes before it are in"):
        lram(capsys, "data", "import", source, "-o", tmp_path / "store")
    assert len(TrajectoryStore(tmp_path / "store")) == 2
    assert lram(capsys, "data", "verify", tmp_path / "store")[0] == 0


def test_skip_bad_imports_the_rest_names_the_bad_and_ends_with_1(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_short(source / "reach-v2" / "0.hdf5")
    (source / "cartpole-balance" / "episode_lengths.json").unlink()
    arguments = ("data", "import", source, "-o", tmp_path / "store", "--skip-bad")
    code, output = lram(capsys, *arguments)
    assert code == 1
    assert "0.hdf5 is no whole HDF5 file" in output
    assert "cartpole-balance/episode_lengths.json is missing" in output
    assert len(TrajectoryStore(tmp_path / "store")) == 1
    code, output = lram(capsys, *arguments, "--json")
    assert code == 1
    assert len(json.loads(output)["problems"]) == 2


@pytest.mark.parametrize("more", [(), ("--skip-bad",)])
def test_a_full_disk_is_no_fault_of_the_data(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: tuple,
) -> None:
    def full(folder: StoreFolder, name: str, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(StoreFolder, "create", full)
    monkeypatch.setattr(importing, "StoreWriter", partial(StoreWriter, part_bytes=1))
    with pytest.raises(
        AgentError, match=r"No space left on device; make room, then run the same command again$"
    ):
        lram(capsys, "data", "import", source, "-o", tmp_path / "store", *more)


def test_a_source_without_a_good_episode_leaves_no_store(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LramError, match="gave no episode"):
        lram(capsys, "data", "import", source, "-o", tmp_path / "store", "--tasks", "atari")
    for file in source.rglob("*.hdf5"):
        cut_short(file)
    with pytest.raises(LramError, match=r"gave no episode: .* is no whole HDF5 file"):
        lram(capsys, "data", "import", source, "-o", tmp_path / "store", "--skip-bad")
    assert not (tmp_path / "store").exists()


def test_a_task_with_two_widths_is_refused_by_its_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lram_task(tmp_path / "a", [4], width=23, size=7)
    lram_task(tmp_path / "b", [4], width=30, size=7)
    own = ("-o", tmp_path / "store", "--task", "harbour/crane", "--reward-scale", "1")
    lram(capsys, "data", "import", tmp_path / "a", *own)
    assert TrajectoryStore(tmp_path / "store").tasks["harbour/crane"].observation_shape == (23,)
    with pytest.raises(LramError, match="put it into another store"):
        lram(capsys, "data", "import", tmp_path / "b", *own)


def test_anybodys_data_can_be_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lram_task(tmp_path / "crane", [5], width=11, size=3)
    store = tmp_path / "store"
    own = ("--task", "harbour/crane", "--reward-scale", "10", "--target-return", "55")
    lram(capsys, "data", "import", tmp_path / "crane", "-o", store, *own)
    spec = TrajectoryStore(store).tasks["harbour/crane"]
    assert (spec.domain, spec.observation_shape, spec.action_size) == ("harbour", (11,), 3)
    assert (spec.reward_scale, spec.target_return) == (10, 55)
    # A store tells its tasks, so it can be imported where nobody knows them.
    lram(capsys, "data", "import", store, "-o", tmp_path / "copy")
    assert TrajectoryStore(tmp_path / "copy").tasks["harbour/crane"] == spec
    # What it tells is not overruled, and least of all in silence.
    with pytest.raises(
        LramError, match=r"says itself that harbour/crane was played.*; leave --task my/crane out"
    ):
        lram(
            capsys, "data", "import", store, "-o", tmp_path / "b", "--task", "my/crane", "--reward-scale", "1"
        )
    assert not (tmp_path / "b").exists()
    assert lram(capsys, "data", "info", store)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "metaworld/reach-v9"], "did you mean metaworld/reach-v3"),
        (["--task", "reach"], "write domain/name"),
        (["--task", "metaworld/reach-v3", "--reward-scale", "2"], "from the table"),
        (["--reward-scale", "2"], "add --task"),
        (["--task", "my/task", "--reward-scale", "0"], "must be above 0"),
        (["--limit", "0"], "--limit must be 1 or more"),
        (["--action-bounds=2,1"], "is no range"),
        (["--action-bounds=2"], "is no range"),
        (["--action-bounds=-1,1e400"], "is no range"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(LramError, match=said) as caught:
        lram(capsys, "data", "import", source, "-o", tmp_path / "store", *arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()


RLDS = Path(__file__).parents[1] / "data" / "rlds"


def test_the_pages_import_of_rlds_data_gives_what_a_model_is_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "data.md").read_text(encoding="utf-8")
    command = re.search(r"lram (data import bridge/1\.0\.0 .*)", page)
    assert command is not None
    names = {"bridge/1.0.0": RLDS / "rlds_arm" / "1.0.0", "data/bridge": tmp_path / "bridge"}
    code, output = lram(capsys, *(names.get(word, word) for word in command[1].split()))
    assert code == 0
    assert re.search(r"2 episodes have images of 96 x 80, made 64 x 64", output)
    assert "not looked at" not in output
    store = TrajectoryStore(tmp_path / "bridge")
    assert store.tasks["bridge/all"].observation_shape == (3, 64, 64)
    card = json.loads((tmp_path / "bridge" / "card.json").read_text())
    assert '"observation": ["image"]' in json.dumps(card)


def test_what_lies_beside_rlds_files_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(RLDS / "rlds_walker", tmp_path / "rlds_walker"))
    (folder / "1.0.0" / "notes.txt").write_text("mine")
    _, output = lram(
        capsys, "data", "import", folder, "-o", tmp_path / "x", "--task", "my/walker", "--reward-scale", 1
    )
    assert "not looked at: 1 files with other endings (1.0.0/notes.txt)" in output
    assert "5 episodes imported, 1 marked as invalid" in output


@pytest.mark.parametrize(
    ("option", "layout"), [(["--observation", "image"], "rlds"), (["--keep-rewards"], "robomimic")]
)
def test_options_are_refused_where_a_layout_has_no_use_for_them(
    source: Path, tmp_path: Path, option: list[str], layout: str
) -> None:
    command = ["data", "import", str(source), "-o", str(tmp_path / "store"), *option]
    with pytest.raises(LramError, match=f"{option[0]} is for data of the layout .*{layout}.*; leave it out"):
        app(command, exit_on_error=False, result_action="return_value")


def test_every_task_of_the_paper_is_found_by_its_names() -> None:
    tasks = ImportTasks()
    for task in registry.benchmark_tasks():
        assert tasks.find((task.id,)) == task.id
        assert tasks.find((task.reference_name,)) == task.id
        assert tasks.find((task.name.replace("-", "_"),)) == task.id


@pytest.mark.parametrize(
    ("names", "task"),
    [
        (("coffee_preparation_d0",), "mimicgen/CoffeePreparation_D0"),
        (
            ("three_piece_assembly_D1_robot_UR5e_gripper_Robotiq85Gripper",),
            "mimicgen/ThreePieceAssembly_D1-UR5e",
        ),
        (("Panda_Stack_D0", "stack_d0"), "mimicgen/Stack_D0"),
        (("IIWA_Stack_D0", "demo"), "mimicgen/Stack_D0-IIWA"),
        # Both play the Sawyer arm; the file's name tells the data set that was made for another arm.
        (("Sawyer_NutAssembly_D0", "nut_assembly_d0"), "mimicgen/NutAssembly_D0"),
        (
            ("Sawyer_NutAssembly_D0", "nut_assembly_D0_robot_Sawyer_gripper_RethinkGripper"),
            "mimicgen/NutAssembly_D0-Sawyer",
        ),
        (("PongNoFrameskip-v4",), "atari/pong"),
        (("raw", "IIWA_Box_None_Push"), "composuite/IIWA_Box_None_Push"),
    ],
)
def test_a_data_sets_own_names_for_tasks(names: tuple[str, ...], task: str) -> None:
    assert ImportTasks().find(names) == task


def test_sizes_that_a_row_leaves_open_come_from_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = dict(registry.all_tasks())
    rows["harbour/crane"] = replace(
        rows["mimicgen/Stack_D0"], domain="harbour", name="crane", observation_size=None
    )
    monkeypatch.setattr(registry, "all_tasks", lambda: rows)
    shapes = Shapes("vector", (23,), "continuous", 7)
    assert ImportTasks().spec("harbour/crane", shapes).observation_shape == (23,)
    assert ImportTasks().spec("metaworld/reach-v3", shapes).observation_shape == (39,)


def test_info_counts_what_is_there(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lram(capsys, "data", "import", source, "-o", tmp_path / "store", "--policy", "SAC")
    (info,) = json.loads(lram(capsys, "data", "info", tmp_path / "store", "--json")[1])
    assert (info["episodes"], info["steps"]) == (3, 218)
    domains = {group["name"]: group for group in info["domains"]}
    reach = domains["metaworld"]
    assert (reach["facts"]["return_mean"], reach["facts"]["return_min"]) == (104, 8)
    assert (reach["facts"]["return_max"], reach["facts"]["length_mean"]) == (200, 104)
    assert reach["facts"]["success_any"] is None
    task = registry.all_tasks()["metaworld/reach-v3"]
    assert task.score_random is not None
    assert task.score_reference is not None
    expected = (104 - task.score_random) / (task.score_reference - task.score_random)
    assert reach["score"] == pytest.approx(expected)
    assert sum(group["bytes"] for group in info["domains"]) == info["bytes"]
    assert [group["name"] for group in info["policies"]["metaworld/reach-v3"]] == ["SAC"]


def test_info_tells_how_well_copying_the_last_action_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Each action is held for two steps, so half the pairs (4 of 7) repeat; a flip of +-0.5 costs 1.
    lram_task(tmp_path / "reach-v2", [8])
    lram(capsys, "data", "import", tmp_path / "reach-v2", "-o", tmp_path / "store")
    (info,) = json.loads(lram(capsys, "data", "info", tmp_path / "store", "--json")[1])
    (domain,) = info["domains"]
    with h5py.File(tmp_path / "reach-v2" / "0.hdf5") as file:
        steps = np.diff(file["actions"][()], axis=0)
    assert domain["copying"]["pairs"] == 7
    assert domain["copying"]["repeated"] == pytest.approx((steps == 0).all(axis=1).mean())
    assert domain["copying"]["repeated"] >= 4 / 7
    assert domain["copying"]["difference"] == pytest.approx((steps**2).mean())
    (quick,) = json.loads(lram(capsys, "data", "info", tmp_path / "store", "--quick", "--json")[1])
    assert quick["domains"][0]["copying"] is None


def test_info_of_clipped_atari_rewards_gives_no_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "PongNoFrameskip-v4"
    folder.mkdir()
    arrays: dict[str, Any] = {
        "states": np.zeros((3, 3, 64, 64), np.uint8),
        "actions": np.array([0, 0, 2]),
        "rewards": np.ones(3, np.float32),
        "returns_to_go": np.array([3, 2, 1], np.float32),
        "dones": np.array(True),
    }
    np.savez(folder / "0.npz", **arrays)
    (folder / "episode_lengths.json").write_text('{"0": 3}')
    lram(capsys, "data", "import", folder, "-o", tmp_path / "store")
    (info,) = json.loads(lram(capsys, "data", "info", tmp_path / "store", "--json")[1])
    (task,) = info["tasks"]
    assert task["score"] is None
    assert task["copying"] == {"pairs": 2, "repeated": 0.5, "difference": None}


def test_info_reads_as_a_table(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lram(capsys, "data", "import", source, "-o", tmp_path / "store", "--licence", "MIT")
    code, output = lram(capsys, "data", "info", tmp_path / "store")
    assert code == 0
    assert "license MIT" in output
    assert output.count("metaworld/reach-v3") == 1  # nobody is named who acted, so no table of them
    assert "difference" in output


def without_checksums(index: Path) -> str:
    """Return an index as earlier versions wrote it."""
    return re.sub(r',"crc32":"[0-9a-f]{8}"}\n', "}\n", index.read_text())


@pytest.mark.parametrize("damage", ["flipped", "missing", "cut", "index"])
def test_verify_names_what_is_bad_and_ends_with_1(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    store = tmp_path / "store"
    lram(capsys, "data", "import", source, "-o", store)
    assert "3 episodes, 218 steps: all good" in lram(capsys, "data", "verify", store)[1]
    part = next(store.glob("parts/metaworld/*/*.hdf5"))
    content = bytearray(part.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 255
        part.write_bytes(content)
    elif damage == "missing":
        part.unlink()
    elif damage == "cut":
        part.write_bytes(content[: len(content) // 2])
    else:
        index = store / "index.jsonl"
        index.write_text(without_checksums(index).replace("[200,8]", "[200,9]"))
    code, output = lram(capsys, "data", "verify", store)
    assert code == 1
    assert str(part) in output
    assert "fault" in output


def test_verify_finds_a_trajectory_that_was_written_wrong(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import hashlib

    store = tmp_path / "store"
    lram(capsys, "data", "import", source, "-o", store)
    part = next(store.glob("parts/metaworld/*/*.hdf5"))
    before = hashlib.sha256(part.read_bytes()).hexdigest()
    with h5py.File(part, "r+") as file:
        file["episode_1/actions"][3] = 7.0
    index = store / "index.jsonl"
    now = hashlib.sha256(part.read_bytes()).hexdigest()
    index.write_text(without_checksums(index).replace(before, now))
    code, output = lram(capsys, "data", "verify", store)
    assert code == 1
    assert "episode 1 has an action outside [-1, 1] at decision 3" in output


def test_verify_and_info_of_what_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lram.agents.api import AgentError

    for command in ("verify", "info"):
        with pytest.raises(AgentError, match="is not a trajectory store"):
            lram(capsys, "data", command, tmp_path)


def shell(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*ready_python(), "-m", "lram.harness.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_bad_data_is_one_line_and_exit_code_2(source: Path, tmp_path: Path) -> None:
    cut_short(source / "cartpole-balance" / "0.hdf5")
    answer = shell("data", "import", source, "-o", tmp_path / "store")
    assert answer.returncode == 2
    assert answer.stderr.startswith("lram: ")
    assert len(answer.stderr.splitlines()) == 1
    assert "--skip-bad" in answer.stderr


@pytest.mark.slow
def test_help_and_info_need_neither_torch_nor_a_simulator(source: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom lram.harness.cli import main\n"
        "sys.argv[1:] = ARGUMENTS\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "print([name for name in ('torch', 'pandas', 'mujoco', 'gymnasium') if name in sys.modules], "
        "file=sys.stderr)"
    )
    store = str(tmp_path / "store")
    for arguments in (
        ["data", "--help"],
        ["data", "import", str(source), "-o", store],
        ["data", "info", store],
    ):
        code = script.replace("ARGUMENTS", repr(arguments))
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert answer.stderr.splitlines()[-1] == "[]"  # before it a slow machine says how far it is


def test_an_interrupted_import_keeps_what_it_has_and_goes_on(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lram.harness.cli.data import import_

    def asked(progress: import_._Progress, report: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        before(progress, report)  # type: ignore[arg-type]

    before = import_._Progress.__call__
    monkeypatch.setattr(import_._Progress, "__call__", asked)
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit, match="130"):
        lram(capsys, "data", "import", source, "-o", tmp_path / "store")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert len(TrajectoryStore(tmp_path / "store")) == 1
    monkeypatch.undo()
    _, output = lram(capsys, "data", "import", source, "-o", tmp_path / "store")
    assert "imported: 2 episodes" in output
    assert "already there: 1 episode" in output


@pytest.mark.slow
def test_rebuild_makes_a_damaged_store_whole_and_says_what_it_did(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    lram(capsys, "data", "import", source, "-o", store)
    whole = TrajectoryStore(store)
    index = store / "index.jsonl"
    content = index.read_bytes()
    index.write_bytes(content[:-1])
    assert lram(capsys, "data", "verify", store)[0] == 1
    for command in (("data", "info", store), ("data", "import", source, "-o", store)):
        answer = shell(*command)
        assert answer.returncode == 2
        assert f"lram data rebuild {store}" in answer.stderr
    code, output = lram(capsys, "data", "rebuild", store)
    assert code == 0
    assert f"kept: {store / 'index.jsonl.before-rebuild-1'}" in output
    assert f"{store}: 2 parts, 3 episodes, 218 steps in the index" in output
    assert index.read_bytes() == content
    assert TrajectoryStore(store).episodes == whole.episodes
    assert lram(capsys, "data", "verify", store)[0] == 0

    part = store / whole.parts[0].part
    part.write_bytes(part.read_bytes()[:-9])
    code, output = lram(capsys, "data", "rebuild", store, "--json")
    assert code == 1
    assert str(part) in json.loads(output)["damaged"][0]
    assert (store / "set-aside" / "0001" / whole.parts[0].part).is_file()


def test_info_and_verify_say_what_has_no_checksum(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    lram(capsys, "data", "import", source, "-o", store)
    for command in ("info", "verify"):
        assert "checksum" not in lram(capsys, "data", command, store)[1]
    index = store / "index.jsonl"
    index.write_text(without_checksums(index))
    for command in ("info", "verify"):
        code, output = lram(capsys, "data", command, store)
        assert code == 0
        assert "2 of 2 lines of" in output

"""Episodes played again: equal to their records, or found, or not judged, and the run's folder untouched."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, hypergeom
from support.forging import forge

from lram.agents.api import Action, AgentInfo, Episode, Observation, TaskSpec
from lram.envs.workers.process import Stepped
from lram.harness.cli.exits import EXIT_FAILED, EXIT_NOT_JUDGED
from lram.harness.cli.options import MachineOptions
from lram.harness.cli.verify import conclude, verify
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine, evaluate
from lram.harness.replay import Replayed, detection, differences, replay, sample, scored
from lram.harness.replay.conditions import conditions
from lram.harness.replay.detection import found_with
from lram.harness.storage.records import WorkItem
from lram.harness.storage.run_folder import Run

QUIET = MachineOptions(workers=1, quiet=True)


def make(folder: Path, agents: Any = ("random", "scripted"), tasks: str = "toy/reach,toy/steps") -> Run:
    return evaluate(agents, tasks, folder, episodes=3, seed=5, machine=Machine(workers=1))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("replay") / "run").path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of a run of twelve episodes, to be changed."""
    import shutil

    return Path(shutil.copytree(made, tmp_path / "run"))


def content(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_every_episode_replays_as_it_was_recorded_and_nothing_is_written(made: Path) -> None:
    before = content(made)
    opened = Run(made)
    replayed = replay(opened, scored(opened), machine=Machine(lanes=1))
    assert [one.record for one in replayed] == opened.records()
    assert [one.differences for one in replayed] == [()] * 12
    assert [one.conditions for one in replayed] == [()] * 12
    assert content(made) == before


def test_which_others_are_replayed_beside_it_and_in_which_lane_makes_no_difference(made: Path) -> None:
    opened = Run(made)
    records = scored(opened, tasks=["toy/reach"])
    lanes = set()
    for count in (1, 3, 6):
        replayed = replay(opened, records[-count:], machine=Machine(lanes=count, shuffle=True))
        assert [one.verdict for one in replayed] == ["same"] * count
        lanes.add(replayed[-1].again.measured.lane)
    assert len(lanes) > 1


@pytest.mark.slow
def test_a_model_replays_alone_and_among_others_as_it_was_recorded(tmp_path: Path) -> None:
    run = make(tmp_path / "run", ["small-mamba"], "toy/reach,toy/image")
    records = scored(run)
    assert [one.verdict for one in replay(run, records[4:5])] == ["same"]
    assert [one.verdict for one in replay(run, records, machine=Machine(lanes=2))] == ["same"] * 6
    # Another way to compute is named wherever it made a difference, and is nobody's forgery.
    other = replay(run, records, machine=Machine(rows=1))
    assert all("small-mamba's rows a pass 8 then, 1 now" in one.conditions for one in other)
    assert all(one.verdict != "differs" for one in other)


FORGERIES: dict[str, tuple[dict[str, Any], str]] = {
    "return": ({"episode_return": 99.0}, "return 99.0, replayed "),
    "length": ({"length": 7}, "length 7, replayed "),
    "success": ({"success_any": True, "success_last": True}, "success at any step True, replayed None"),
    "trajectory": ({"trajectory": "0badc0de"}, "trajectory checksum 0badc0de, replayed "),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_record_with_right_checksums_is_found_and_named(
    run: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = FORGERIES[name]
    forged = forge(
        run, lambda r: change if (r["agent"], r["task"], r["episode"]) == ("random", "toy/steps", 1) else None
    )
    assert forged == 1
    assert verify(run, share=1.0, seed=0, agent=["random"], machine=QUIET) == EXIT_FAILED
    output = capsys.readouterr().out
    assert f"random|toy/steps|1: {words}" in output
    assert "5 of 6 replayed episodes equal their records, 1 do not" in output
    assert verify(run, share=1.0, seed=0, agent=["scripted"], machine=QUIET) == 0


def test_a_record_edited_by_hand_is_refused_before_anything_is_replayed(run: Path) -> None:
    segment = next((run / "records").glob("*.jsonl"))
    segment.write_bytes(segment.read_bytes().replace(b'"length":', b'"length":1', 1))
    with pytest.raises(LramError, match="checksum"):
        verify(run, machine=QUIET)


def test_where_conditions_are_others_a_difference_is_not_judged_and_equality_still_is(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = (run / "provenance").glob("*.json")
    made = json.loads(file.read_bytes())
    made.pop("checksum", None)
    made["cpu"] = "Another Processor"
    made["workers"]["toy"]["numpy"] = "1.0"
    file.write_text(json.dumps(made))
    assert verify(run, share=1.0, seed=0, machine=QUIET) == 0
    forge(run, lambda r: {"episode_return": 99.0} if r["episode"] == 0 else None)
    capsys.readouterr()
    assert verify(run, share=1.0, seed=0, machine=QUIET) == EXIT_NOT_JUDGED
    output = capsys.readouterr().out
    assert "processor Another Processor then" in output
    assert "toy worker's numpy 1.0 then" in output


def test_what_was_recorded_without_provenance_or_on_a_cluster_is_not_judged(run: Path) -> None:
    forge(run, lambda r: {"measured": {**r["measured"], "node": "n7"}} if r["agent"] == "random" else None)
    opened = Run(run)
    record = scored(opened)[0]
    (one,) = replay(opened, [record])
    assert one.verdict == "same"
    assert "made on n7, a node of a cluster" in one.conditions[0]
    for file in (run / "provenance").glob("*"):
        file.unlink()
    (one,) = replay(opened, [replace(scored(opened)[-1], length=3)])
    assert one.verdict == "not judged"
    assert "no provenance" in one.conditions[0]


def test_what_a_model_computes_with_is_a_condition_and_of_other_agents_it_is_none(made: Path) -> None:
    opened = Run(made)
    record, (then,) = scored(opened)[0], opened.provenance()
    compute = {"device": "cuda", "threads": "1"}
    then = replace(then, compute={"random": compute}, gpu="A", packages={**then.packages, "torch": "2.0"})
    now = replace(then, gpu="B", packages={**then.packages, "torch": "2.1"})
    assert conditions(record, then, now, model=False) == ()
    assert conditions(record, then, now, model=True) == ("torch 2.0 then, 2.1 now", "GPU A then, B now")
    several = replace(then, compute={"random": {**compute, "threads": "2"}})
    (told,) = conditions(record, several, several, model=True)
    assert "random computed with 2 threads" in told
    for field, words in (("platform", "C library"), ("python", "Python"), ("git", "lram-bench")):
        value = "Linux-with-glibc1" if field == "platform" else "1.0"
        (told,) = conditions(record, replace(then, **{field: value}), then, model=False)
        assert words in told


class Moody:
    """Acts by a mood of its own, as no agent should."""

    info = AgentInfo("baseline", "moody")
    rows = None

    def __init__(self, mood: int) -> None:
        self.mood = mood

    def refuses(self, task: TaskSpec) -> str | None:
        return None

    def start(self, lanes: int) -> int:
        return lanes

    def reset(self, state: Any, lanes: Sequence[int], episodes: Sequence[Episode]) -> None: ...

    def act(
        self, state: Any, observations: Sequence[Observation], rewards: Sequence[float], lanes: Sequence[int]
    ) -> tuple[list[Action], Any]:
        return [self.mood for _ in lanes], state

    def state_bytes(self, state: Any) -> int:
        return 0


def test_an_agent_that_acts_otherwise_now_differs_and_objects_are_given_from_python(tmp_path: Path) -> None:
    run = make(tmp_path / "run", {"moody": Moody(1)}, "toy/steps")
    records = scored(run)
    with pytest.raises(LramError, match=r"Python object.*replay from Python"):
        replay(run, records)
    assert [one.verdict for one in replay(run, records, agents={"moody": Moody(1)})] == ["same"] * 3
    other = replay(run, records, agents={"moody": Moody(2)})
    assert [one.verdict for one in other] == ["differs"] * 3
    assert all("trajectory checksum" in one.differences[0] for one in other)


def test_a_simulator_that_fails_now_is_no_forgery(made: Path) -> None:
    record = scored(Run(made))[0]
    again = replace(record, status="errored", failure=None)
    assert differences(record, again) == ()
    from lram.harness.storage.records import Failure

    failed = replace(record, status="errored", failure=Failure("crash", "it died"))
    one = Replayed(record, failed, differences(record, failed))
    assert (one.verdict, one.differences) == ("not judged", ("the replay failed: it died",))


def test_a_realtime_run_is_not_replayed(tmp_path: Path) -> None:
    run = evaluate("scripted", "toy/blink", tmp_path / "run", episodes=1, realtime_hz=1000.0)
    with pytest.raises(LramError, match=r"played in real time .1000 Hz.*cannot be replayed"):
        replay(run, run.records())


def test_the_sample_is_of_its_size_named_by_its_seed_and_of_what_was_asked_for(made: Path) -> None:
    opened = Run(made)
    records = scored(opened)
    assert [len(sample(records, share, 1)) for share in (0.001, 0.25, 0.26, 1.0)] == [1, 3, 4, 12]
    assert sample(records, 0.5, 1) == sample(records, 0.5, 1) != sample(records, 0.5, 2)
    assert len(sample(list(records) * 10, 0.07, 1)) == 9  # 8.4 of 120
    assert {record.agent for record in scored(opened, ["random"])} == {"random"}
    for share in (0.0, -0.1, 1.01, float("nan")):
        with pytest.raises(LramError, match="share"):
            sample(records, share, 1)
    with pytest.raises(LramError, match="no agent 'nobody'; it has random, scripted"):
        scored(opened, ["nobody"])
    with pytest.raises(LramError, match="no task 'toy/none'"):
        scored(opened, None, ["toy/none"])


@pytest.mark.parametrize(
    ("episodes", "sampled"), [(12, 3), (120, 6), (1000, 50), (1000, 1), (37, 36), (5, 5)]
)
def test_the_probability_is_the_hypergeometric_one_and_the_least_number_the_least(
    episodes: int, sampled: int
) -> None:
    for forged in {1, 2, episodes // 2, episodes - 1, episodes}:
        expected = 1 - hypergeom.pmf(0, episodes, forged, sampled)
        assert found_with(sampled, episodes, forged) == pytest.approx(expected, abs=1e-12)
    found = detection(sampled, episodes)
    assert found.probability >= 0.95
    assert found.forged == 1 or found_with(sampled, episodes, found.forged - 1) < 0.95


@pytest.mark.parametrize(("share", "forged"), [(0.05, 40), (0.2, 13), (0.5, 3)])
def test_of_200_forgeries_a_sample_finds_as_many_as_is_told(made: Path, share: float, forged: int) -> None:
    # 120 records, of which some are altered at random; what a sample of them shows is counted.
    first = scored(Run(made))[0]
    records = [replace(first, episode=episode) for episode in range(120)]
    chance = random.Random(f"{share} {forged}")
    found = 0
    for forgery in range(200):
        altered = set(chance.sample(range(120), forged))
        now = [replace(r, episode_return=99.0) if r.episode in altered else r for r in records]
        found += any(differences(r, first) for r in sample(now, share, forgery))
    size = len(sample(records, share, 0))
    told = found_with(size, 120, forged)
    low, high = binom.ppf([1e-4, 1 - 1e-4], 200, told)
    assert low <= found <= high
    assert found < 200 or told > 0.95


def test_the_sentence_tells_numbers_that_hold(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(made, share=0.25, seed=3, machine=QUIET) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    told = re.fullmatch(
        r"(\d+) of (\d+) scored episodes replayed, all equal: if at least ([\d.]+)% of the records "
        r"\((\d+) of \d+\) were forged, this sample would have found one with probability ([\d.]+)% or more",
        last,
    )
    assert told is not None
    sampled, episodes, forged = int(told[1]), int(told[2]), int(told[4])
    assert (sampled, episodes) == (3, 12)
    assert np.ceil(float(told[3]) / 100 * episodes - 1e-3) >= forged
    assert hypergeom.pmf(0, episodes, forged, sampled) <= 1 - float(told[5]) / 100
    assert verify(made, share=1.0, machine=QUIET) == 0
    assert "all 12 scored episodes were replayed" in capsys.readouterr().out


def test_a_sample_that_nobody_named_is_named_when_it_is_drawn(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = []
    for _ in range(2):
        verify(made, share=0.01, task=["toy/steps"], agent=["random"], machine=QUIET)
        told = re.search(
            r"replaying 1 of 3 scored episodes, sample (\d+) \(again with --seed \1\)",
            capsys.readouterr().out,
        )
        assert told is not None
        drawn.append(told[1])
    assert drawn[0] != drawn[1]


def test_what_is_judged_decides_the_exit_code(made: Path) -> None:
    record = scored(Run(made))[0]
    same = Replayed(record, record, ())
    differs = Replayed(record, record, ("length",))
    unjudged = Replayed(record, record, ("length",), ("processor",))
    assert conclude([same, same], 9) == 0
    assert conclude([same, unjudged], 9) == EXIT_NOT_JUDGED
    assert conclude([differs, unjudged], 9) == EXIT_FAILED


class Watcher:
    """Counts what it is shown."""

    def __init__(self, *, wants: bool = True) -> None:
        self.wants = wants
        self.images: dict[WorkItem, list[np.ndarray]] = {}
        self.steps: dict[WorkItem, int] = {}

    def begun(self, item: WorkItem) -> bool:
        self.images[item], self.steps[item] = [], 0
        return self.wants

    def stepped(self, item: WorkItem, action: Action | None, event: Stepped) -> bool:
        assert action is not None
        self.steps[item] += 1
        return self.wants

    def rendered(self, item: WorkItem, image: np.ndarray) -> None:
        self.images[item].append(image)


def test_images_come_with_every_step_and_leave_the_trajectory_as_it_was(made: Path) -> None:
    opened, watcher = Run(made), Watcher()
    records = scored(opened)
    assert all(one.verdict == "same" for one in replay(opened, records, observer=watcher))
    for record in records:
        assert watcher.steps[record.item] == record.length
        images = watcher.images[record.item]
        assert len(images) == record.length + 1
        assert {(image.shape, image.dtype.name) for image in images} == {((64, 64, 3), "uint8")}
        assert len({image.tobytes() for image in images}) > 1


class Breaks(Moody):
    """Its first action is none."""

    def act(self, *given: Any) -> tuple[list[Action], Any]:
        actions, state = super().act(*given)
        broken, self.mood = self.mood, 1
        return [broken for _ in actions], state


def test_an_image_of_an_episode_that_has_failed_is_not_taken_for_the_next_ones(tmp_path: Path) -> None:
    run = make(tmp_path / "run", {"moody": Moody(1)}, "toy/steps")
    watcher = Watcher()
    again = replay(run, scored(run), agents={"moody": Breaks(99)}, machine=Machine(lanes=1), observer=watcher)
    assert [one.verdict for one in again] == ["not judged", "same", "same"]
    assert "gave action 99" in again[0].differences[0]
    for one in again[1:]:
        assert len(watcher.images[one.record.item]) == (one.record.length or 0) + 1


def test_who_wants_no_images_gets_none(made: Path) -> None:
    opened, watcher = Run(made), Watcher(wants=False)
    replay(opened, scored(opened)[:1], observer=watcher)
    assert list(watcher.images.values()) == [[]]

"""Runs that were changed behind our back: every change is found or harmless, and nothing is invented."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lram.agents.api import AgentInfo
from lram.agents.checksums import sign_file, sign_line
from lram.envs.registry import all_tasks
from lram.harness.errors import LramError
from lram.harness.storage.json_files import encode
from lram.harness.storage.record_checks import MOST_EPISODES
from lram.harness.storage.records import (
    SCHEMA,
    AgentEntry,
    EpisodeRecord,
    Failure,
    Measured,
    PlannedTask,
    RunPlan,
)
from lram.harness.storage.run_folder import PLAN_FILE, Run, RunWriter
from lram.harness.storage.seeds import collection_seed, simulator_seed

PLAN = RunPlan(
    schema=SCHEMA,
    seed=7,
    episodes=4,
    agents=(AgentEntry("a", "random", AgentInfo("baseline", "x")),),
    tasks=(PlannedTask(all_tasks()["toy/reach"], "toy:plain@1"),),
)


def record(episode: int, **changes: Any) -> EpisodeRecord:
    made = EpisodeRecord(
        schema=SCHEMA,
        agent="a",
        task="toy/reach",
        episode=episode,
        seed=simulator_seed(7, "toy/reach", episode),
        protocol="toy:plain@1",
        status="scored",
        episode_return=0.25 * episode,
        length=20,
        success_any=True,
        success_last=False,
        terminated=False,
        truncated=True,
        trajectory="0badcafe",
        failures=0,
        failure=None,
        measured=Measured(1.7e9, 1.0, 0.5, 0.1, 0, 42, ("attempt 1: worker 3 died",)),
        parts=(0.5, 1.5),
        repeated=3,
    )
    return replace(made, **changes)


RECORDS = [record(episode) for episode in range(4)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with RunWriter.create(tmp_path / "run", PLAN) as writer:
        for one in RECORDS:
            writer.append(one)
    return tmp_path / "run"


def harmless_or_refused(folder: Path) -> str:
    """Return how the run is read now; nothing but a lack of records may come of a change without a word."""
    try:
        run = Run(folder)
        found = run.records()
        told = run.without_checksums()
        missing = [item.episode for item in run.missing()]
    except LramError as error:
        return "refused" if str(folder) in str(error) else f"refused without its name: {error}"
    if found == RECORDS and run.plan == PLAN:
        return "the same"
    assert run.plan == PLAN or PLAN_FILE in told
    originals = {one.episode: one for one in RECORDS}
    assert all(one == originals[one.episode] for one in found) or told
    assert sorted([one.episode for one in found] + missing) == [0, 1, 2, 3] or told
    return "said" if told else "missing"


def changes(content: bytes, seed: int, count: int) -> list[bytes]:
    """Return copies of ``content`` with one bit flipped, one byte lost, one doubled, or the end cut off."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        place = rng.randrange(len(content))
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        made += [
            bytes(flipped),
            content[:place] + content[place + 1 :],
            content[: place + 1] + content[place:],
            content[:place],
        ]
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("records/0001.jsonl", 400), ("run.json", 200)])
def test_every_change_to_a_byte_is_found_or_harmless(folder: Path, name: str, count: int) -> None:
    file = folder / name
    content = file.read_bytes()
    seen = set()
    for changed in changes(content, 1, count):
        file.write_bytes(changed)
        seen.add(harmless_or_refused(folder))
        assert seen <= {"refused", "the same", "said", "missing"}
        assert file.read_bytes() == changed
    assert "refused" in seen
    file.write_bytes(content)
    assert harmless_or_refused(folder) == "the same"


def test_every_single_flipped_bit_of_a_record_is_found(folder: Path) -> None:
    segment = folder / "records" / "0001.jsonl"
    content = segment.read_bytes()
    second = content.index(b"\n") + 1
    end = content.index(b"\n", second)
    for place in range(second, end):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        segment.write_bytes(bytes(flipped))
        assert harmless_or_refused(folder) == "refused", place


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"episode_return": 1000.0}, "another in records"),
        ({"trajectory": "00000000"}, "another in records"),
        ({"episode": 99}, "of no episode of the plan"),
        ({"episode": -1}, "of no episode of the plan"),
        ({"agent": "nobody"}, "of no episode of the plan"),
        ({"task": "toy/steps"}, "of no episode of the plan"),
        ({"seed": 5}, "played with the seed 5"),
        ({"seed": 10**30}, "played with the seed"),
        ({"protocol": "toy:plain@2"}, "the plan says toy:plain@1"),
        ({"schema": 99}, "layout 99"),
        ({"episode_return": None}, "that its return and length contradict"),
        ({"length": -5}, "has length -5"),
        ({"length": None}, "that its return and length contradict"),
        ({"trajectory": "no checksum"}, "which is none"),
        ({"repeated": 20}, "has 20 repeated of 20"),
        ({"failure": Failure("crash", "gone")}, "that its failure contradicts"),
        ({"status": "errored"}, "that its return and length contradict"),
        ({"success_any": False, "success_last": True}, "at the last step and at none"),
        ({"failures": -1}, "has failures -1"),
        ({"measured": Measured(1.7e9, -1.0, 0.5, 0.1, 0, 42)}, "times that none can be"),
        ({"measured": Measured(1e300, 1.0, 0.5, 0.1, 0, 42)}, "times that none can be"),
    ],
)
def test_a_record_that_cannot_be_right_is_refused_by_name(
    folder: Path, wrong: dict[str, Any], words: str, signed: bool
) -> None:
    lines = [msgspec.json.encode(one) for one in (*RECORDS, replace(RECORDS[0], **wrong))]
    segment = folder / "records" / "0001.jsonl"
    segment.write_bytes(b"".join((sign_line(line) if signed else line) + b"\n" for line in lines))
    with pytest.raises(LramError, match=words) as caught:
        Run(folder).records()
    assert str(folder) in str(caught.value)


def test_a_record_of_no_episode_of_the_plan_is_refused_before_anything_is_played(folder: Path) -> None:
    with RunWriter(Run(folder)) as writer, pytest.raises(LramError, match="of no episode of the plan"):
        writer.append(record(3, agent="nobody"))
    line = sign_line(msgspec.json.encode(record(3, agent="nobody")))
    (folder / "records" / "0002.jsonl").write_bytes(line + b"\n")
    with pytest.raises(LramError, match="of no episode of the plan"):
        Run(folder).missing()


def test_equal_records_of_one_episode_count_once(folder: Path) -> None:
    with RunWriter(Run(folder)) as writer:
        writer.append(replace(RECORDS[0], measured=Measured(1.8e9, 2.0, 0.5, 0.1, 0, 43)))
    assert [one.episode_return for one in Run(folder).records()] == [0.0, 0.25, 0.5, 0.75]


def test_runs_of_earlier_versions_are_read_and_said_to_be_without_checksums(folder: Path) -> None:
    assert Run(folder).without_checksums() == []
    (folder / PLAN_FILE).write_bytes(encode(PLAN))
    segment = folder / "records" / "0001.jsonl"
    segment.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in RECORDS))
    assert Run(folder).records() == RECORDS
    assert Run(folder).without_checksums() == [PLAN_FILE, "records/0001.jsonl"]


def test_a_collection_has_seeds_of_its_own(tmp_path: Path) -> None:
    plan = replace(PLAN, collected=True)
    own = record(0, seed=simulator_seed(collection_seed(7, "a"), "toy/reach", 0))
    with RunWriter.create(tmp_path / "run", plan) as writer:
        writer.append(own)
    assert Run(tmp_path / "run").records() == [own]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"episodes": 10**12}, f"more than {MOST_EPISODES:,} episodes"),
        ({"episodes": 0}, "0 episodes a task"),
        ({"seed": -1}, "its seed is -1"),
        ({"seed": 1 << 63}, "seed is a number of 16 hexadecimal digits"),
        ({"agents": PLAN.agents * 2}, "2 of its agents are called 'a'"),
        ({"agents": ()}, "it has no agents"),
        ({"tasks": PLAN.tasks * 2}, "2 of its tasks are called 'toy/reach'"),
        ({"tasks": ()}, "it has no tasks"),
        ({"agents": (replace(PLAN.agents[0], label="\x1b[31m"),)}, "is no name of agents"),
        ({"realtime_hz": -1.0}, "the world's rate is -1 Hz"),
        ({"threads": 0}, "the threads are 0"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_whoever_signed_it(
    tmp_path: Path, wrong: dict[str, Any], words: str
) -> None:
    (tmp_path / PLAN_FILE).write_bytes(sign_file(encode(replace(PLAN, **wrong))))
    with pytest.raises(LramError, match=words):
        Run(tmp_path)


def test_what_macos_lays_beside_the_files_of_a_run_is_no_part_of_it(folder: Path) -> None:
    before = Run(folder).records()
    for file in [*folder.glob("records/*.jsonl"), *folder.glob("provenance/*.json"), folder / PLAN_FILE]:
        file.with_name(f"._{file.name}").write_bytes(b"\x00\x05\x16\x07Mac OS X\n")
        file.with_name(".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1")
    check_unchanged(folder, before)


def test_hidden_files_and_an_editors_locks_are_no_part_of_a_run(folder: Path) -> None:
    before = Run(folder).records()
    for file in [*folder.glob("records/*.jsonl"), *folder.glob("provenance/*.json")]:
        file.with_name(f".#{file.name}").symlink_to("someone@host.4711:1")
        file.with_name(f".{file.name}").write_bytes(b"half a line")
    check_unchanged(folder, before)


def check_unchanged(folder: Path, before: list[EpisodeRecord]) -> None:
    run = Run(folder)
    assert run.records() == before
    run.provenance()
    run.sessions()
    assert run.without_checksums() == []


def test_a_damaged_first_line_is_named_where_checksums_are_looked_for(folder: Path) -> None:
    segment = folder / "records/0001.jsonl"
    content = bytearray(segment.read_bytes())
    content[20] ^= 1
    segment.write_bytes(content)
    with pytest.raises(LramError, match=r"0001\.jsonl, line 1 is damaged"):
        Run(folder).without_checksums()

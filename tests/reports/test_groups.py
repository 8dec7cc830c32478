"""Results by group: the right tasks in each, and only where there is something to tell apart."""

from __future__ import annotations

import csv
import io

import pytest

from lram.envs.attributes import task_attributes
from lram.envs.registry import benchmark_tasks
from lram.reports import summarise
from lram.reports.csv_files import csv_files
from lram.reports.evidence.collect import collect
from lram.reports.sections.scores import programs
from lram.reports.sections.scores.groups import tables

SUITE = {
    "composuite/IIWA_Box_None_Push": 0.1,
    "composuite/IIWA_Plate_None_Push": 0.3,
    "composuite/Panda_Box_None_Push": 0.5,
}


def played(synthetic, returns, split=lambda task_id: "train"):
    agent = synthetic.agent("a")
    tasks = [synthetic.task(name, split=split(name)) for name in returns]
    return synthetic.run(
        synthetic.plan([agent], tasks, 2), lambda item: (returns[item.task], returns[item.task] > 0.2, False)
    )


def test_each_group_holds_its_own_tasks(synthetic):
    (agent,) = summarise([played(synthetic, SUITE)]).agents
    found = {
        (g.domain, g.facet, g.value): (g.score.estimate.value, g.success_any.estimate.value)
        for g in agent.groups
    }
    assert found == {
        ("composuite", "robot", "IIWA"): (pytest.approx(0.2), pytest.approx(0.5)),
        ("composuite", "robot", "Panda"): (pytest.approx(0.5), pytest.approx(1.0)),
        ("composuite", "object", "Box"): (pytest.approx(0.3), pytest.approx(0.5)),
        ("composuite", "object", "Plate"): (pytest.approx(0.3), pytest.approx(1.0)),
    }


def test_splits_are_told_apart_over_all_domains_as_means_of_domain_means(synthetic):
    returns = {"composuite/IIWA_Box_None_Push": 0.1, "composuite/IIWA_Plate_None_Push": 0.3}
    returns |= {"metaworld/one": 0.8, "metaworld/two": 0.4}
    heldout = ("composuite/IIWA_Plate_None_Push", "metaworld/two")
    run = played(synthetic, returns, lambda name: "heldout" if name in heldout else "train")
    (agent,) = summarise([run]).agents
    everywhere = {g.value: g.score.estimate.value for g in agent.groups if g.domain == "all domains"}
    assert everywhere == {"train": pytest.approx((0.1 + 0.8) / 2), "heldout": pytest.approx((0.3 + 0.4) / 2)}
    assert [g.success_any for g in agent.groups if g.domain == "all domains"] == [None, None]


def test_where_nothing_differs_there_is_no_table(synthetic):
    summary = summarise([played(synthetic, {"metaworld/one": 0.8, "metaworld/two": 0.4})])
    assert summary.agents[0].groups == ()
    assert tables(summary) == []


def test_people_and_programs_read_the_same_groups(synthetic):
    run = played(synthetic, SUITE)
    summary = summarise([run])
    scores, success = (table.printed for table in tables(summary))
    assert [cell.text for cell in scores.rows[0][:4]] == ["composuite", "robot", "IIWA", "2"]
    assert scores.rows[0][4].text == "0.200"
    assert success.rows[0][4].text == "50"
    rows = list(
        csv.DictReader(
            io.StringIO(csv_files(programs.tables(summary, collect([run])))["per_group.csv"].decode())
        )
    )
    assert (rows[0]["facet"], rows[0]["group"], rows[0]["measure"], rows[0]["tasks"]) == (
        "robot",
        "IIWA",
        "score",
        "2",
    )


def test_every_task_of_the_robot_domains_has_its_robot():
    robots = {domain: {} for domain in ("composuite", "mimicgen")}
    for task in benchmark_tasks():
        if task.domain in robots:
            robot = task_attributes(task)["robot"]
            robots[task.domain][robot] = robots[task.domain].get(robot, 0) + 1
    assert robots["composuite"] == dict.fromkeys(("IIWA", "Jaco", "Kinova3", "Panda"), 64)
    # 83 in training: Panda 22, IIWA 21, UR5e 21, Sawyer 19; two more for Panda are held out.
    assert robots["mimicgen"] == {"Panda": 24, "Sawyer": 19, "IIWA": 21, "UR5e": 21}

"""What an agent has seen is told by its own training tasks, by the paper's split where it tells none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lram.agents.checkpoints.known_tasks import known_tasks
from lram.harness.storage.records import AgentEntry
from lram.reports import summarise
from lram.reports.sections.scores.groups import tables

TASKS = ("metaworld/reach-v3", "metaworld/push-v3", "metaworld/door-lock-v3")


def agent(
    synthetic, label: str, tasks: tuple[str, ...] | None, *, complete: bool = True, **more
) -> AgentEntry:
    entry = synthetic.agent(label, **more)
    info = replace(entry.info, training_tasks=tasks, training_tasks_complete=complete)
    return replace(entry, info=info)


def summary_of(synthetic, *agents: AgentEntry):
    tasks = [
        synthetic.task(TASKS[0]),
        synthetic.task(TASKS[1]),
        synthetic.task(TASKS[2], split="heldout"),
    ]
    score = {TASKS[0]: 1.0, TASKS[1]: 0.5, TASKS[2]: 0.2}
    return summarise(
        [synthetic.run(synthetic.plan(agents, tasks, 2), lambda i: score[i.task] + i.episode * 0.1)]
    )


def caveats(summary, kind: str):
    return [caveat for caveat in summary.caveats if caveat.kind == kind]


def test_a_model_of_two_tasks_has_not_seen_a_third_that_the_paper_trained_on(synthetic):
    summary = summary_of(synthetic, agent(synthetic, "m", (TASKS[0], TASKS[2])))
    split = summary.agent("m").split
    assert split.source == "card"
    assert split.seen == (TASKS[0], TASKS[2])
    assert split.unseen == (TASKS[1],)
    assert split.seen_score.estimate.value == pytest.approx(0.65)
    assert split.unseen_score.estimate.value == pytest.approx(0.55)
    assert [summary.result("m", task).seen for task in TASKS] == [True, False, True]
    assert TASKS[1] in caveats(summary, "unseen tasks")[0].items[0]
    assert not caveats(summary, "seen by the paper's split")


def test_a_model_that_does_not_tell_goes_by_the_paper_s_split_and_that_is_said(synthetic):
    summary = summary_of(synthetic, agent(synthetic, "m", None))
    split = summary.agent("m").split
    assert (split.source, split.unseen) == ("paper", (TASKS[2],))
    (said,) = caveats(summary, "seen by the paper's split")
    assert said.items == ("m",)
    assert said.text.startswith("1 trained agent does not tell the tasks of its training")
    summary = summary_of(synthetic, agent(synthetic, "m", None), agent(synthetic, "n", None))
    (said,) = caveats(summary, "seen by the paper's split")
    assert said.text.startswith("2 trained agents do not tell the tasks of their training")


def test_what_was_never_trained_has_seen_nothing(synthetic):
    untrained = agent(synthetic, "u", None, trained=False)
    summary = summary_of(synthetic, untrained, agent(synthetic, "random", None, trained=None))
    assert [one.split for one in summary.agents] == [None, None]
    assert summary.result("u", TASKS[0]).seen is None


def test_the_table_of_seen_tasks_has_a_row_for_each_trained_agent(synthetic):
    agents = [
        agent(synthetic, "a", TASKS[:1]),
        agent(synthetic, "b", TASKS, complete=False),
        agent(synthetic, "c", None),
    ]
    summary = summary_of(synthetic, *agents, agent(synthetic, "random", None, trained=None))
    table = tables(summary)[0].printed
    rows = [[cell.text for cell in row] for row in table.rows]
    assert table.id == "seen"
    assert [row[:3] for row in rows] == [
        ["a", "its 1 training task", "1"],
        ["b", "its 3 training tasks, of its last training", "3"],
        ["c", "the paper's split", "2"],
    ]
    assert rows[1][4:] == ["0", "–"]
    assert caveats(summary, "seen before")[0].items == ("b",)
    by_split = next(found.printed for found in tables(summary) if found.id == "group-scores")
    assert {row[1].text for row in by_split.rows} == {"the paper's split"}


def test_runs_from_before_and_after_tasks_were_noted_are_one_agent(synthetic):
    plans = [
        synthetic.plan([agent(synthetic, "m", tasks)], [synthetic.task(TASKS[0])], 2, seed=seed)
        for seed, tasks in enumerate((None, TASKS[:1]))
    ]
    assert summarise([synthetic.run(plan, lambda _: 1.0) for plan in plans]).agent("m").scored == 4


@pytest.mark.parametrize(
    ("card", "tasks", "complete"),
    [
        ({}, None, True),
        ({"data": []}, None, True),
        ({"data": {"tasks": {"b": {}, "a": {}}}}, ("a", "b"), True),
        ({"data": {"tasks": {"b": {}}}, "init_from": {"digest": "x"}}, ("b",), False),
        (
            {
                "data": {"tasks": {"b": {}}},
                "init_from": {"digest": "x"},
                "earlier_tasks": ["c"],
                "earlier_tasks_complete": True,
            },
            ("b", "c"),
            True,
        ),
        ({"data": {"tasks": {"b": {}}}, "init_from": {"digest": "x"}, "earlier_tasks": 3}, ("b",), False),
    ],
)
def test_a_card_tells_the_tasks_of_all_trainings_that_are_known(card, tasks, complete):
    assert known_tasks(card) == (tasks, complete)

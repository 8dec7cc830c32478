"""Failing must not raise a score: what an agent's own errors count as, and what the simulator's do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from lram.harness.storage.records import Failure, WorkItem, given_up_words
from lram.harness.storage.run_folder import Run, RunWriter
from lram.reports import summarise
from lram.reports.comparison.barrier import barrier
from lram.reports.evidence.collect import collect
from lram.reports.sections.scores import tables

NAN = Failure("agent", "agent b gave an action with NaN or infinity for toy/t")
CRASH = Failure("crash", "worker died")
RETURNS = (0.0, 2.0, 8.0, 10.0)


def run_of(synthetic, outcome: Callable[[WorkItem], object], task: str = "toy/t", episodes: int = 4) -> Run:
    """Agents a, which does as told, and b, of which ``outcome`` tells."""
    plan = synthetic.plan([synthetic.agent("a"), synthetic.agent("b")], [synthetic.task(task)], episodes)
    return synthetic.run(plan, lambda i: RETURNS[i.episode] if i.agent == "a" else outcome(i))


def caveat(summary, kind: str):
    return [found for found in summary.caveats if found.kind == kind]


def failing_below(level: float, failure: Failure) -> Callable[[WorkItem], object]:
    return lambda item: value if (value := RETURNS[item.episode]) > level else failure


def test_an_agent_that_fails_in_its_bad_episodes_scores_no_more_than_one_that_plays_them(synthetic):
    summary = summarise([run_of(synthetic, failing_below(5.0, NAN))])
    honest, failing = (summary.result(label, "toy/t") for label in "ab")
    assert honest.score.value == 5.0
    assert failing.score.value == 4.5  # 0 for each of the two, where it had 0 and 2
    assert (failing.scored, failing.errored, failing.failed_by_agent) == (2, 2, 2)
    assert summary.agent("b").failed_by_agent == 2
    assert summary.agent("b").mean_of_domain_means.rests_on.comparable
    assert "own errors" in {found.kind for found in summary.caveats}
    assert not caveat(summary, "errored"), "that caveat is about simulators"


def test_episodes_that_the_simulator_failed_stay_missing(synthetic):
    summary = summarise([run_of(synthetic, failing_below(5.0, CRASH))])
    result = summary.result("b", "toy/t")
    assert (result.score.value, result.failed_by_agent) == (9.0, 0)
    assert "2 of 8 planned episodes" in caveat(summary, "errored")[0].text
    assert not caveat(summary, "own errors")


@pytest.mark.parametrize("kind", ["crash", "timeout", "session"])
def test_every_other_kind_is_the_simulators(synthetic, kind):
    result = summarise([run_of(synthetic, failing_below(5.0, Failure(kind, "x")))]).result("b", "toy/t")
    assert (result.score.value, result.failed_by_agent) == (9.0, 0)


@pytest.mark.parametrize(("whose", "mean"), [("b", 2.5), (None, 10.0)])
def test_a_quarantine_is_whose_the_failures_before_it_were(synthetic, whose, mean):
    given_up = Failure("quarantine", f"{given_up_words('toy/t', whose)}its first 3 episodes errored")
    run = run_of(synthetic, lambda item: 10.0 if item.episode == 3 else given_up)
    assert summarise([run]).result("b", "toy/t").score.value == mean


def test_where_no_least_return_is_known_there_is_no_score_and_it_is_said(synthetic):
    summary = summarise([run_of(synthetic, failing_below(1.0, NAN), "atari/pong")])
    result = summary.result("b", "atari/pong")
    assert (result.score, result.mean_return, result.scored) == (None, None, 3)
    assert "1 of 4 episodes failed by the agent's own errors" in result.uncounted
    aggregate = summary.agent("b").mean_of_domain_means
    assert not aggregate.rests_on.comparable
    assert aggregate.rests_on.left_out[0].reason == result.uncounted
    assert "not comparable" in caveat(summary, "own errors")[0].items[0]
    cells = {cell.small for row in tables.matrix(summary).printed.rows for cell in row}
    assert "not comparable: failed by its own errors" in cells


def test_an_episode_that_failed_by_the_agents_fault_is_not_solved(synthetic):
    def outcome(item: WorkItem):
        if item.agent == "b" and item.episode < 2:
            return NAN
        return 5.0, True, True

    plan = synthetic.plan(
        [synthetic.agent("a"), synthetic.agent("b")], [synthetic.task("metaworld/reach-v3")], 4
    )
    summary = summarise([synthetic.run(plan, outcome)])
    assert [summary.result(label, "metaworld/reach-v3").success_any.value for label in "ab"] == [1.0, 0.5]
    assert summary.agent("b").domains[0].success_any.rests_on.episodes == 4


def test_a_task_without_a_notion_of_success_gets_none_by_failing(synthetic):
    summary = summarise([run_of(synthetic, lambda _: NAN)])
    assert summary.result("b", "toy/t").success_any is None
    assert summary.result("b", "toy/t").score.value == 0.0


def raised_run(synthetic, episodes: int) -> Run:
    run = run_of(synthetic, lambda item: RETURNS[item.episode] if item.episode >= episodes else None)
    with RunWriter(run) as writer:
        told = run.provenance()[0]
        writer.write_provenance(replace(told, raised={"b": "agent b raised ValueError: bad day"}))
    return Run(run.path)


def test_an_agent_that_raises_in_its_bad_episodes_has_no_number_until_the_run_is_complete(synthetic):
    summary = summarise([raised_run(synthetic, 2)])
    result = summary.result("b", "toy/t")
    assert (result.score, result.missing) == (None, 2)
    assert "resume the run" in result.uncounted
    assert summary.result("a", "toy/t").score.value == 5.0, "the other agent has done nothing"
    assert "bad day" in caveat(summary, "raised")[0].items[0]


def test_a_run_that_was_completed_after_an_error_is_one_like_any_other(synthetic):
    summary = summarise([raised_run(synthetic, 0)])
    assert summary.result("b", "toy/t").score.value == 5.0
    assert not caveat(summary, "raised")


def test_agents_are_not_compared_where_a_failed_episode_cannot_be_counted(synthetic):
    names = {"a": "A", "b": "B"}
    assert barrier(collect([run_of(synthetic, failing_below(5.0, NAN))]), names) == ""
    told = barrier(collect([run_of(synthetic, failing_below(1.0, NAN), "atari/pong")]), names)
    assert told.startswith("B on atari/pong: 1 of 4 episodes failed by the agent's own errors")
    assert barrier(collect([run_of(synthetic, failing_below(1.0, CRASH), "atari/pong")]), names) == ""


def test_a_failed_episode_keeps_its_initial_state_and_counts_with_the_least_return(synthetic):
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("darkroom/dense-01")], 2)
    run = synthetic.run(plan, lambda item: NAN if item.episode else 6.0)
    cell = collect([run]).cells["a", "darkroom/dense-01"]
    assert [record.episode_return for record in cell.counted.values()] == [6.0, 0.0]
    assert [record.seed for record in cell.counted.values()] == [r.seed for r in cell.records.values()]

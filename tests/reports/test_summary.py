from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.files import without_checksum

from lram.harness.errors import LramError
from lram.harness.storage.records import DomainSource, Failure, Skipped
from lram.harness.storage.run_folder import Run, RunWriter
from lram.reports import Summary, summarise
from lram.reports.aggregates import AGGREGATES
from lram.reports.evidence.collect import collect
from lram.reports.model import rounded
from lram.reports.rendering import words
from lram.reports.rendering.markdown import markdown
from lram.reports.sections.scores import tables
from lram.reports.sections.scores.comparisons import comparisons
from lram.reports.sections.scores.programs import aggregates

CRASH = Failure("crash", "worker died")


def by_episode(*values):
    """An outcome for each episode, the same for every agent and task."""
    return lambda item: values[item.episode]


def caveat(summary, kind):
    return [c for c in summary.caveats if c.kind == kind]


def test_scored_errored_and_missing_add_up_to_what_was_planned(synthetic):
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("toy/t")], episodes=5)
    run = synthetic.run(plan, by_episode(1.0, CRASH, None, 3.0, Failure("quarantine", "too often")))
    result = summarise([run]).result("a", "toy/t")
    assert (result.planned, result.scored, result.errored, result.missing) == (5, 2, 2, 1)
    assert [(f.kind, f.episodes) for f in result.failures] == [("crash", 1), ("quarantine", 1)]
    assert result.mean_return.value == 2.0, "an errored episode is no zero"


def test_scores_are_normalised_returns(synthetic):
    task = synthetic.task("toy/t", random=10.0, reference=30.0)
    run = synthetic.run(synthetic.plan([synthetic.agent("a")], [task], 3), by_episode(20.0, 40.0, 30.0))
    result = summarise([run]).result("a", "toy/t")
    assert result.score.value == pytest.approx(1.0)
    low, high = result.mean_return.interval.low, result.mean_return.interval.high
    assert result.score.interval.low == pytest.approx((low - 10) / 20)
    assert result.score.interval.high == pytest.approx((high - 10) / 20)


def test_aggregates_are_those_of_the_task_means(synthetic):
    tasks = [synthetic.task(f"{d}/{i}") for d, n in (("x", 5), ("y", 2)) for i in range(n)]
    value = {task.id: float(place) for place, task in enumerate(tasks)}
    run = synthetic.run(
        synthetic.plan([synthetic.agent("a")], tasks, 2), lambda item: value[item.task] + item.episode - 0.5
    )
    agent = summarise([run]).agent("a")
    assert [d.score.estimate.value for d in agent.domains] == [2.0, 5.5]
    assert agent.mean_of_domain_means.estimate.value == 3.75
    assert agent.aggregates["iqm_of_task_means"].estimate.value == 3.0  # 0 1 2 3 4 5 6 less one at each end
    assert agent.aggregates["iqm_of_task_means"].estimate.interval is None
    assert agent.aggregates["iqm_of_task_means"].rests_on == agent.mean_of_domain_means.rests_on
    assert (agent.mean_of_domain_means.rests_on.tasks, agent.mean_of_domain_means.rests_on.episodes) == (
        7,
        14,
    )
    assert agent.mean_of_domain_means.rests_on.domains == ("x", "y")


def test_a_task_with_one_episode_has_no_interval(synthetic):
    run = synthetic.run(synthetic.plan([synthetic.agent("a")], [synthetic.task("toy/t")], 1), by_episode(2.0))
    summary = summarise([run])
    result, agent = summary.result("a", "toy/t"), summary.agent("a")
    assert result.mean_return.interval is None
    assert result.score.interval is None
    assert result.score.note == "one episode"
    assert agent.mean_of_domain_means.estimate.value == 2.0
    assert agent.mean_of_domain_means.estimate.interval is None
    assert "one episode" in agent.mean_of_domain_means.estimate.note
    assert caveat(summary, "single episode")


def test_a_task_with_one_episode_borrows_noise_in_the_aggregate(synthetic):
    tasks = [synthetic.task("toy/t"), synthetic.task("toy/u")]
    run = synthetic.run(
        synthetic.plan([synthetic.agent("a")], tasks, 3),
        lambda item: float(item.episode) if item.task == "toy/t" or item.episode == 0 else CRASH,
    )
    aggregate = summarise([run]).agent("a").mean_of_domain_means
    assert aggregate.rests_on.borrowed_noise == 1
    assert aggregate.estimate.interval.low < aggregate.estimate.value < aggregate.estimate.interval.high


def test_every_task_outside_an_aggregate_is_named_with_its_reason(synthetic):
    tasks = [
        synthetic.task("toy/fine"),
        synthetic.task("toy/unknown", reference=None),
        synthetic.task("toy/below", random=5.0, reference=4.0),
        synthetic.task("toy/broken"),
        synthetic.task("toy/barred"),
    ]
    plan = synthetic.plan(
        [synthetic.agent("a")], tasks, 2, skipped=[Skipped("a", "toy/barred", "it reads images only")]
    )
    run = synthetic.run(plan, lambda item: CRASH if item.task == "toy/broken" else 1.0)
    summary = summarise([run])
    rests_on = summary.agent("a").mean_of_domain_means.rests_on
    reasons = {left.task: left.reason for left in rests_on.left_out}
    assert rests_on.tasks == 1
    assert set(reasons) == {task.id for task in tasks[1:]}
    assert reasons["toy/unknown"] == "no score reference"
    assert "not above" in reasons["toy/below"]
    assert reasons["toy/broken"] == "no scored episode (2 errored, 0 missing)"
    assert "it reads images only" in reasons["toy/barred"]
    assert summary.result("a", "toy/unknown").mean_return.value == 1.0, "returns need no reference"
    named = {item for c in caveat(summary, "reference") for item in c.items}
    assert named == {"toy/unknown", "toy/below"}


def test_agents_with_fewer_tasks_are_not_comparable(synthetic):
    tasks = [synthetic.task("x/1"), synthetic.task("y/2")]
    plan = synthetic.plan(
        [synthetic.agent("all"), synthetic.agent("half")],
        tasks,
        2,
        skipped=[Skipped("half", "y/2", "it cannot")],
    )
    summary = summarise([synthetic.run(plan, by_episode(1.0, 2.0))])
    assert summary.agent("all").mean_of_domain_means.rests_on.comparable
    half = summary.agent("half")
    assert not half.mean_of_domain_means.rests_on.comparable
    assert (half.mean_of_domain_means.rests_on.tasks, half.mean_of_domain_means.rests_on.of_tasks) == (1, 2)
    assert [d.score.rests_on.comparable for d in half.domains] == [True, False]
    assert summary.comparisons[0].tasks == 1
    assert half.mean_of_domain_means.rests_on.unfinished == 0
    assert caveat(summary, "coverage")[0].items == ("half: 1 of 2 tasks",)


def test_coverage_is_that_of_the_plan_not_of_what_anybody_has_scored(synthetic):
    tasks = [synthetic.task(f"metaworld/{i}") for i in range(4)] + [synthetic.task("x/r", reference=None)]
    plan = synthetic.plan([synthetic.agent("a"), synthetic.agent("b")], tasks, 2)

    def outcome(item):
        if item.agent == "b":
            return CRASH
        return (1.0, True, False) if item.task in ("metaworld/0", "metaworld/1") else None

    summary = summarise([synthetic.run(plan, outcome)])
    a, b = (agent.mean_of_domain_means.rests_on for agent in summary.agents)
    assert (a.tasks, a.of_tasks, a.unfinished, a.comparable) == (2, 4, 2, False)
    assert (b.tasks, b.of_tasks, b.unfinished, b.comparable) == (0, 4, 0, False)
    success = summary.agent("a").domains[0].success_any.rests_on
    assert (success.tasks, success.of_tasks, success.unfinished) == (2, 4, 2)
    assert caveat(summary, "coverage")[0].items == ("a: 2 of 4 tasks, unfinished", "b: 0 of 4 tasks")
    text = markdown(summary).decode()
    assert "not comparable: unfinished, rests on 2 of 4 tasks" in text
    assert "| 0 of 4 |" in text


def test_what_an_agent_cannot_play_is_one_line_and_one_reason(synthetic):
    tasks = [synthetic.task(f"x/{i}") for i in range(4)]
    skipped = [Skipped("a", f"x/{i}", f"there is no scripted controller for x/{i}") for i in (1, 2, 3)]
    plan = synthetic.plan([synthetic.agent("a")], tasks, 2, skipped=skipped)
    summary = summarise([synthetic.run(plan, by_episode(1.0, 2.0))])
    line = "a cannot play 3 tasks: x/1, x/2, x/3: no scripted controller"
    assert caveat(summary, "skipped")[0].items == (line,)
    (omission,) = tables.omissions(summary)
    assert (omission.reason, omission.tasks) == (
        "cannot play it: no scripted controller",
        ("x/1", "x/2", "x/3"),
    )


def test_few_and_equal_episodes_are_said_before_the_numbers(synthetic):
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1"), synthetic.task("x/2")], 3)
    summary = summarise([synthetic.run(plan, lambda item: item.episode * float(item.task == "x/2"))])
    (few,) = caveat(summary, "few episodes")
    assert few.text.startswith("n = 3 episodes a task: intervals of single tasks hold for")
    assert "On 1 of 2 tasks" in few.text
    assert few.items == ("a on x/1",)
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 10)
    assert not caveat(summarise([synthetic.run(plan, lambda item: 1.0)]), "few episodes")


def test_few_episodes_are_counted_with_those_that_an_agent_failed_itself(synthetic):
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("dmcontrol/walker-walk", 0.0, 1000.0)], 6)
    failed = Failure("agent", "agent a gave what is no action")
    found = summarise([synthetic.run(plan, lambda item: failed if item.episode else 300.0)])
    (few,) = caveat(found, "few episodes")
    assert few.text.startswith("n = 6 episodes a task")
    assert not caveat(found, "single episode")


def test_a_random_reference_of_convention_is_said_where_there_is_one(synthetic):
    tasks = [synthetic.task("procgen/coinrun"), synthetic.task("procgen/bossfight", random=0.5)]
    run = synthetic.run(synthetic.plan([synthetic.agent("a")], tasks, 1), by_episode(1.0))
    (said,) = caveat(summarise([run]), "random reference")
    assert said.items == ("procgen/coinrun",)
    run = synthetic.run(synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 1), by_episode(1.0))
    assert not caveat(summarise([run]), "random reference")


def test_a_protocol_other_than_the_default_is_named_first_and_in_a_caveat(synthetic):
    tasks = [synthetic.task("atari/pong"), synthetic.task("unknown/t")]
    plan = synthetic.plan([synthetic.agent("a")], tasks, 1, protocol="sticky@1")
    summary = summarise([synthetic.run(plan, by_episode(1.0))])
    (said,) = caveat(summary, "protocol")
    assert said.text.startswith("atari ran under sticky@1, not the reference evaluation's protocol")
    assert "atari under sticky@1" in words.lead(summary)
    plain = summarise([synthetic.run(synthetic.plan([synthetic.agent("a")], tasks, 1), by_episode(1.0))])
    assert not caveat(plain, "protocol")
    assert "protocol" not in words.lead(plain)


def test_failure_messages_are_listed_the_most_frequent_first_and_the_rest_counted(synthetic):
    def outcome(item):
        common = item.episode % 2
        return (
            Failure("session", f"boom {item.episode // 2:02d}") if common else Failure("crash", "signal 11")
        )

    plan = synthetic.plan([synthetic.agent("a"), synthetic.agent("b")], [synthetic.task("x/1")], 24)
    summary = summarise([synthetic.run(plan, outcome)])
    failures = summary.result("a", "x/1").failures
    assert (failures[0].kind, failures[0].message, failures[0].episodes) == ("crash", "signal 11", 12)
    assert len(failures) == 13
    table = tables.errors(summary).printed
    assert [cell.text for cell in table.rows[0]] == ["signal 11", "crash", "a, b", "x/1", "24"]
    assert len(table.rows) == 10
    assert "Not shown: 3 more messages, 6 episodes." in table.caption
    assert "signal 11" in markdown(summary).decode()


def test_success_rates_have_score_intervals_and_only_where_there_is_success(synthetic):
    plan = synthetic.plan(
        [synthetic.agent("a")], [synthetic.task("metaworld/t"), synthetic.task("atari/u")], 4
    )
    run = synthetic.run(
        plan, lambda item: 1.0 if item.task == "atari/u" else (1.0, item.episode > 0, item.episode > 2)
    )
    summary = summarise([run])
    result = summary.result("a", "metaworld/t")
    assert (result.success_any.value, result.success_last.value) == (0.75, 0.25)
    assert result.success_any.interval.method == "score"
    assert summary.result("a", "atari/u").success_any is None
    metaworld, atari = summary.agent("a").domains
    assert metaworld.success_any.estimate.value == 0.75
    assert atari.success_any is None


def test_a_success_rate_of_zero_has_an_interval_with_width(synthetic):
    tasks = [synthetic.task("metaworld/t"), synthetic.task("metaworld/u")]
    run = synthetic.run(synthetic.plan([synthetic.agent("a")], tasks, 3), lambda item: (0.0, False, False))
    rate = summarise([run]).agent("a").domains[0].success_any.estimate
    assert (rate.value, rate.interval.low, rate.interval.method) == (0.0, 0.0, "score")
    assert rate.interval.high == pytest.approx(0.39, abs=0.01)


def test_untrained_models_carry_the_word_in_their_name(synthetic):
    agents = [synthetic.agent("m", trained=False), synthetic.agent("b", trained=None)]
    summary = summarise([synthetic.run(synthetic.plan(agents, [synthetic.task("x/1")], 1), by_episode(0.0))])
    assert [agent.name for agent in summary.agents] == ["m (untrained)", "b"]
    assert caveat(summary, "untrained")[0].items == ("m",)


def test_notes_on_references_reach_the_reader(synthetic):
    task = synthetic.task("metaworld/t", sources=(("score", "table 1"), ("score_note", "read success first")))
    summary = summarise([synthetic.run(synthetic.plan([synthetic.agent("a")], [task], 1), by_episode(0.0))])
    assert "read success first" in caveat(summary, "score note")[0].text
    assert summary.tasks[0].score_source == "table 1"


def test_episodes_that_repeat_each_other_are_said(synthetic, tmp_path):
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1"), synthetic.task("x/2")], 4)
    with RunWriter.create(tmp_path / "run", plan) as writer:
        for item in plan.items():
            record = synthetic.record(plan, item, 1.0)
            same = item.task == "x/1" and item.episode > 1
            writer.append(replace(record, trajectory="00000001") if same else record)
    assert caveat(summarise([Run(tmp_path / "run")]), "repeats")[0].items == ("a on x/1: 3 different of 4",)


def test_a_mixture_of_splits_is_said(synthetic):
    tasks = [synthetic.task("x/1"), synthetic.task("x/2", split="heldout")]
    summary = summarise([synthetic.run(synthetic.plan([synthetic.agent("a")], tasks, 1), by_episode(0.0))])
    assert "1 train, 1 heldout" in caveat(summary, "splits")[0].text


def test_a_run_without_records_gives_a_summary_that_says_so(synthetic):
    run = synthetic.run(
        synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 3), by_episode(None, None, None)
    )
    summary = summarise([run])
    assert summary.caveats[0].kind == "empty"
    assert summary.agent("a").missing == 3
    assert summary.agent("a").mean_of_domain_means.estimate is None


@pytest.mark.slow
def test_the_summary_survives_json(synthetic):
    summary = summarise([synthetic.study()])
    assert msgspec.json.decode(msgspec.json.encode(summary), type=Summary) == summary


@pytest.mark.slow
def test_intervals_of_scores_draw_nothing_and_comparisons_follow_the_seed(synthetic):
    run = synthetic.study()
    assert summarise([run], seed=1) == summarise([run], seed=1)
    one, other = (summarise([run], seed=seed, resamples=50) for seed in (1, 2))
    assert one.agents == other.agents
    assert one.results == other.results


@pytest.mark.slow
def test_another_agent_does_not_move_an_agents_intervals(synthetic):
    few, many = summarise([synthetic.study(agents=2)]), summarise([synthetic.study(agents=5)])
    assert few.agents[0].mean_of_domain_means == many.agents[0].mean_of_domain_means


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"level": 1.0}, {"level": 0.0}])
def test_numbers_out_of_range_are_refused(synthetic, wrong):
    with pytest.raises(ValueError, match="resamples"):
        summarise([synthetic.study(agents=1)], **wrong)


def test_no_run_is_an_error():
    with pytest.raises(LramError, match="no run"):
        summarise([])


def test_runs_with_different_seeds_add_up(synthetic):
    agents, tasks = [synthetic.agent("a")], [synthetic.task("x/1")]
    runs = [
        synthetic.run(synthetic.plan(agents, tasks, 2, seed=seed), lambda item, s=seed: float(s))
        for seed in (0, 1)
    ]
    summary = summarise(runs)
    assert summary.result("a", "x/1").scored == 4
    assert summary.result("a", "x/1").mean_return.value == 0.5
    assert summary.run_seeds == (0, 1)


def test_the_same_item_in_two_runs_counts_once(synthetic):
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 2)
    runs = [synthetic.run(plan, by_episode(1.0, None)), synthetic.run(plan, by_episode(1.0, 2.0))]
    result = summarise(runs).result("a", "x/1")
    assert (result.planned, result.scored, result.missing) == (2, 2, 0)


def test_a_scored_record_goes_before_an_errored_one(synthetic):
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 1)
    runs = [synthetic.run(plan, by_episode(CRASH)), synthetic.run(plan, by_episode(2.0))]
    summary = summarise(runs)
    assert (summary.result("a", "x/1").scored, summary.result("a", "x/1").errored) == (1, 0)
    assert not caveat(summary, "disagreement")


def test_two_runs_that_disagree_on_an_item_are_told_apart(synthetic):
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 1)
    summary = summarise([synthetic.run(plan, by_episode(1.0)), synthetic.run(plan, by_episode(2.0))])
    assert caveat(summary, "disagreement")[0].items == ("a|x/1|0",)
    assert summary.result("a", "x/1").mean_return.value == 1.0


def test_agents_of_several_runs_stand_in_one_report(synthetic):
    tasks = [synthetic.task("x/1")]
    runs = [
        synthetic.run(synthetic.plan([synthetic.agent(label)], tasks, 3), by_episode(0.0, 1.0, 2.0))
        for label in ("a", "b")
    ]
    summary = summarise(runs)
    assert [agent.label for agent in summary.agents] == ["a", "b"]
    assert summary.comparisons[0].episodes == 3, "equal run seeds give equal initial states"


@pytest.mark.parametrize("change", [{"digest": "other"}, {"spec": "other"}, {"description": "other"}])
def test_one_label_for_two_agents_is_an_error(synthetic, change):
    tasks = [synthetic.task("x/1")]
    runs = [
        synthetic.run(synthetic.plan([agent], tasks, 1), by_episode(0.0))
        for agent in (synthetic.agent("a"), synthetic.agent("a", **change))
    ]
    with pytest.raises(LramError, match=r"'a' stands for two agents.*other"):
        summarise(runs)


def test_one_task_under_two_protocols_is_an_error_that_names_both(synthetic):
    agents, tasks = [synthetic.agent("a")], [synthetic.task("atari/pong")]
    runs = [
        synthetic.run(synthetic.plan(agents, tasks, 1, protocol=protocol), by_episode(0.0))
        for protocol in ("lram@1", "sticky@1")
    ]
    with pytest.raises(LramError, match=r"atari:lram@1 and atari:sticky@1"):
        summarise(runs)


def test_one_task_with_two_references_is_an_error(synthetic):
    runs = [
        synthetic.run(
            synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1", reference=r)], 1), by_episode(0.0)
        )
        for r in (1.0, 2.0)
    ]
    with pytest.raises(LramError, match="two score references"):
        summarise(runs)


def test_one_domain_file_with_two_contents_is_an_error_that_names_it(synthetic):
    def of(digest, helper, seed):
        plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 1, seed)
        source = DomainSource(f"/somewhere/{seed}/x.py", digest, {"helper": helper})
        return synthetic.run(replace(plan, domain_files={"x": source}), by_episode(0.0))

    unnoted = synthetic.run(
        synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 1, 5), by_episode(0.0)
    )
    assert summarise([of("aa", "bb", 0), unnoted, of("aa", "bb", 1)])
    with pytest.raises(LramError, match="the source of domain x is not the same in these runs"):
        summarise([of("aa", "bb", 0), of("cc", "bb", 1)])
    with pytest.raises(LramError, match="the source of module helper of the domain x is not the same"):
        summarise([unnoted, of("aa", "bb", 0), of("aa", "cc", 1)])


def test_paired_differences_cancel_shared_luck(synthetic):
    tasks = [synthetic.task(f"x/{i}") for i in range(4)]
    luck = np.random.default_rng(0).normal(size=(4, 5))
    run = synthetic.run(
        synthetic.plan([synthetic.agent("a"), synthetic.agent("b")], tasks, 5),
        lambda item: float(
            luck[int(item.task[-1]), item.episode] + (0.01 * item.episode if item.agent == "a" else 0.0)
        ),
    )
    summary = summarise([run])
    pair = summary.comparisons[0]
    own = summary.agent("a").mean_of_domain_means.estimate.interval
    assert pair.difference.value == pytest.approx(0.02)
    assert 0.01 < pair.difference.interval.low < 0.02 < pair.difference.interval.high < 0.03
    assert own.high - own.low > 0.5
    assert pair.p < 0.001


def test_equal_differences_do_not_show_that_there_is_no_noise(synthetic):
    returns = {"x/1": (1.0, 1.0, 1.0), "x/2": (1.0, -2.0, 3.0)}
    plan = synthetic.plan(
        [synthetic.agent("a"), synthetic.agent("b")], [synthetic.task(t) for t in returns], 3
    )
    run = synthetic.run(plan, lambda item: returns[item.task][item.episode] if item.agent == "a" else 0.0)
    pair = summarise([run]).comparisons[0]
    # Half of the weighted mean is x/1's, whose pairs show no noise: x/2's alone would give 0.73.
    assert pair.difference.interval.high - pair.difference.interval.low > 4 * 0.73
    assert pair.difference.interval.low < 0
    assert pair.p > 0.2
    plan = synthetic.plan(plan.agents, [synthetic.task("x/1")], 3)
    run = synthetic.run(plan, lambda item: 1.0 if item.agent == "a" else 0.0)
    pair = summarise([run]).comparisons[0]
    assert pair.difference.value == 1.0
    assert (pair.difference.interval, pair.difference.note) == (None, "too few pairs of episodes")
    assert pair.p == 0.25


def test_agents_that_always_end_alike_are_told_apart_where_no_rare_outcome_could_undo_it(synthetic):
    def pair(episodes, ahead, behind=0.0, level=0.95):
        plan = synthetic.plan([synthetic.agent("a"), synthetic.agent("b")], [synthetic.task("x/1")], episodes)
        run = synthetic.run(plan, lambda item: ahead if item.agent == "a" else behind)
        return summarise([run], level=level).comparisons[0]

    won = pair(10, 1.0)
    unseen = 1 - 0.05 ** (1 / 10)
    assert won.p < 0.05
    assert won.difference.interval.low == pytest.approx(1 - 2 * unseen)
    assert won.difference.interval.high == pytest.approx(1.0), "no outcome lies beyond the references"
    assert pair(6, 1.0).p < 0.05, "six of six against none of six"
    steady = pair(10, 0.1)
    assert steady.difference.interval.low < 0 < steady.difference.interval.high
    assert (steady.p > 0.05, steady.limit) == (True, "unseen outcomes")
    assert pair(60, 0.1).p < 0.05, "what comes in 1 of 20 episodes would have been seen by now"


def test_agents_whose_every_episode_is_the_same_trajectory_are_not_charged_with_rare_outcomes(synthetic):
    plan = synthetic.plan([synthetic.agent("a"), synthetic.agent("b")], [synthetic.task("x/1")], 8)
    evidence = collect([synthetic.run(plan, lambda item: 0.1 if item.agent == "a" else 0.0)])
    assert summarise(evidence).comparisons[0].p > 0.05
    for agent in "ab":
        cell = evidence.cells[agent, "x/1"]
        same = {key: replace(record, trajectory=f"of {agent}") for key, record in cell.records.items()}
        evidence.cells[agent, "x/1"] = replace(cell, records=same, scored=same, counted=same)
    summary = summarise(evidence)
    pair = summary.comparisons[0]
    assert (pair.p, pair.limit) == (2 / 2**8, "")
    assert (pair.difference.interval, pair.difference.note) == (
        None,
        "the pairs of each task all differ alike",
    )


def test_a_difference_that_holms_correction_takes_back_is_marked(synthetic):
    plan = synthetic.plan([synthetic.agent(label) for label in "abc"], [synthetic.task("x/1")], 7)

    def outcome(item):
        return {"a": 2.0, "b": 1.0, "c": 0.0}[item.agent] + (0.01 + 0.01 * (item.agent == "b")) * item.episode

    summary = summarise([synthetic.run(plan, outcome)])
    pairs = {(pair.first, pair.second): pair for pair in summary.comparisons}
    assert (pairs["a", "b"].p, pairs["a", "b"].p_holm) == (2 / 2**7, 3 * 2 / 2**7)
    flags = {row[2].flag for row in comparisons(summary).printed.rows}
    assert flags == {""}
    few = summarise([synthetic.run(replace(plan, episodes=6), outcome)])
    assert {row[2].flag for row in comparisons(few).printed.rows} == {"not after Holm's correction"}


def test_equal_episodes_have_no_interval_and_borrow_noise_only_where_they_weigh_most(synthetic):
    returns = {"x/1": (1.0, 1.0, 1.0), "x/2": (1.0, -2.0, 3.0), "y/1": (0.5, 0.5, 0.5)}
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task(t) for t in returns], 3)
    summary = summarise([synthetic.run(plan, lambda item: returns[item.task][item.episode])])
    for estimate in (summary.result("a", "x/1").score, summary.result("a", "x/1").mean_return):
        assert (estimate.value, estimate.interval, estimate.note) == (1.0, None, "all equal")
    x, y = (domain.score for domain in summary.agent("a").domains)
    assert (x.rests_on.borrowed_noise, x.rests_on.alike) == (0, 1)
    assert x.estimate.interval.doubts == ("few episodes",)
    own = summary.result("a", "x/2").score.interval
    # x/1 adds no noise: the mean over both has half of x/2's.
    assert x.estimate.interval.high - x.estimate.interval.low == pytest.approx((own.high - own.low) / 2)
    assert (y.estimate.interval, y.estimate.note) == (None, "all equal")
    # y/1 weighs as much as x's two tasks together.
    whole = summary.agent("a").mean_of_domain_means
    assert (whole.rests_on.borrowed_noise, whole.rests_on.alike) == (1, 2)
    assert whole.estimate.interval.doubts == ("few episodes", "borrowed noise")


def test_episodes_that_are_too_few_to_tell_give_no_interval_and_say_so(synthetic):
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1"), synthetic.task("x/2")], 5)
    jackpot = {"x/1": (0.0, 0.0, 100.0, 0.0, 0.0), "x/2": (0.0, 0.0, 0.0, 100.0, 0.0)}
    summary = summarise([synthetic.run(plan, lambda item: jackpot[item.task][item.episode])])
    estimate = summary.result("a", "x/1").mean_return
    assert (estimate.interval, estimate.note) == (None, "cannot be told from 5 episodes")
    whole = summary.agent("a").mean_of_domain_means.estimate
    assert (whole.interval, whole.note) == (None, "cannot be told from 10 episodes")
    text = markdown(summary).decode()
    assert "cannot be told from 10 episodes" in text
    assert "(cannot be told from" not in text, "the reason stands in place of the interval, and not twice"


@pytest.mark.slow
def test_doubts_stand_beside_the_number_with_a_legend(synthetic):
    few = summarise([synthetic.study(episodes=5)])
    table = tables.headline(few).printed
    assert all(row[1].small.endswith("†") for row in table.rows)
    assert "† Few episodes" in table.caption
    many = summarise([synthetic.study(episodes=25, agents=2)])
    table = tables.headline(many).printed
    assert not any("†" in row[1].small for row in table.rows)
    assert "†" not in table.caption
    assert many.agents[0].mean_of_domain_means.estimate.interval.doubts == ()


def test_intervals_end_where_no_return_can_lie(synthetic):
    returns = (990.0, 998.0, 930.0, 999.0)
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("dmcontrol/t", reference=900.0)], 4)
    run = synthetic.run(plan, by_episode(*returns))
    result = summarise([run]).result("a", "dmcontrol/t")
    assert result.mean_return.interval.high == 1000.0
    assert result.score.interval.high == pytest.approx(1000 / 900)
    beyond = synthetic.run(plan, by_episode(*returns[:3], 1001.0))
    wider = summarise([beyond]).result("a", "dmcontrol/t").mean_return.interval
    assert wider.high > 1001.0, "a return outside shows that the rule is another"


def test_the_mean_of_unequal_tasks_holds_its_own_estimate(synthetic):
    tasks = [synthetic.task("metaworld/t"), synthetic.task("metaworld/u")]
    plan = synthetic.plan([synthetic.agent("a")], tasks, 30)

    def outcome(item):
        solved = item.task == "metaworld/t"
        return (float(solved), solved, solved) if solved or item.episode < 3 else CRASH

    rate = summarise([synthetic.run(plan, outcome)]).agent("a").domains[0].success_any.estimate
    assert rate.value == 0.5
    assert rate.interval.low < 0.5 < rate.interval.high
    assert (rate.interval.low, rate.interval.high) == pytest.approx((0.443, 0.781), abs=0.002)


def test_differences_rest_on_the_episodes_that_both_scored(synthetic):
    returns = {
        "a": {"x/1": (1.0, 5.0, 9.0), "x/2": (2.0, CRASH, 4.0), "y/3": (7.0, 8.0, None)},
        "b": {"x/1": (0.0, 1.0, CRASH), "x/2": (1.0, 1.0, 1.0), "y/3": (5.0, 2.0, 3.0)},
    }
    plan = synthetic.plan(
        [synthetic.agent("a"), synthetic.agent("b")], [synthetic.task(t) for t in returns["a"]], 3
    )
    summary = summarise([synthetic.run(plan, lambda item: returns[item.agent][item.task][item.episode])])
    pair = summary.comparisons[0]
    x = np.mean([np.mean([1.0 - 0.0, 5.0 - 1.0]), np.mean([2.0 - 1.0, 4.0 - 1.0])])
    y = np.mean([7.0 - 5.0, 8.0 - 2.0])
    assert (pair.tasks, pair.episodes, pair.domains) == (3, 6, ("x", "y"))
    assert pair.difference.value == pytest.approx((x + y) / 2)
    assert pair.p == 2 / 2**6, "all six differences point one way: the two extreme sign patterns"
    assert pair.p_holm == pair.p, "one comparison needs no correction"


def test_comparisons_are_corrected_for_their_number(synthetic):
    summary = summarise([synthetic.study()])
    assert len(summary.comparisons) == 15
    assert all(pair.p <= pair.p_holm <= 1 for pair in summary.comparisons)
    smallest = min(summary.comparisons, key=lambda pair: pair.p)
    assert smallest.p_holm == pytest.approx(min(1.0, 15 * smallest.p))


def test_agents_without_a_shared_seed_are_not_compared(synthetic):
    tasks = [synthetic.task("x/1")]
    runs = [
        synthetic.run(synthetic.plan([synthetic.agent(label)], tasks, 2, seed=seed), by_episode(0.0, 1.0))
        for seed, label in enumerate("ab")
    ]
    pair = summarise(runs).comparisons[0]
    assert (pair.difference, pair.p, pair.p_holm, pair.tasks) == (None, None, None, 0)


def test_episodes_that_began_differently_are_no_pair(synthetic):
    tasks = [synthetic.task("x/1")]
    plan = synthetic.plan([synthetic.agent("a"), synthetic.agent("b")], tasks, 2)
    evidence = collect([synthetic.run(plan, by_episode(0.0, 1.0))])
    assert summarise(evidence).comparisons[0].difference is not None
    cell = evidence.cells["b", "x/1"]
    moved = {key: replace(record, seed=1) for key, record in cell.records.items()}
    evidence.cells["b", "x/1"] = replace(cell, records=moved, scored=moved, counted=moved)
    assert summarise(evidence).comparisons[0].difference is None


OUTCOMES = st.one_of(st.none(), st.just(CRASH), st.floats(-100, 100).map(rounded))


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(OUTCOMES, min_size=12, max_size=12))
def test_whatever_was_recorded_the_counts_and_means_are_right(synthetic, outcomes):
    tasks = [synthetic.task(f"{d}/{i}") for d in "xy" for i in range(2)]
    place = {task.id: 3 * number for number, task in enumerate(tasks)}
    plan = synthetic.plan([synthetic.agent("a")], tasks, 3)
    run = synthetic.run(plan, lambda item: outcomes[place[item.task] + item.episode])
    summary = summarise([run], resamples=50)
    agent = summary.agent("a")
    assert agent.planned == 12 == agent.scored + agent.errored + agent.missing
    assert agent.missing == sum(outcome is None for outcome in outcomes)
    means = {}
    for task in tasks:
        values = [v for v in outcomes[place[task.id] : place[task.id] + 3] if isinstance(v, float)]
        result = summary.result("a", task.id)
        assert result.scored == len(values)
        assert (result.score is None) == (not values)
        if values:
            means.setdefault(task.domain, []).append(np.mean(values))
            assert result.score.value == pytest.approx(np.mean(values), abs=1e-9)
    rests_on = agent.mean_of_domain_means.rests_on
    assert rests_on.tasks + len(rests_on.left_out) == 4
    if means:
        expected = np.mean([np.mean(values) for values in means.values()])
        assert agent.mean_of_domain_means.estimate.value == pytest.approx(expected, abs=1e-9)


def test_details_for_provenance_do_not_make_another_agent(synthetic):
    tasks, agent = [synthetic.task("x/1")], synthetic.agent("a")
    moved = replace(agent, info=replace(agent.info, details=(("device", "cuda"),)))
    runs = [
        synthetic.run(synthetic.plan([entry], tasks, 1, seed=seed), by_episode(0.0))
        for seed, entry in enumerate((agent, moved))
    ]
    assert summarise(runs).result("a", "x/1").scored == 2


def computed(**facts):
    return {"m": {"device": "cpu", "step": "fused kernels", "threads": "1", **facts}}


def test_sessions_that_compute_otherwise_make_one_caveat_that_names_agent_and_difference(synthetic):
    plan = synthetic.plan([synthetic.agent("m")], [synthetic.task("x/1")], 2)
    sessions = [computed(), computed(step="plain PyTorch", threads="2")]
    summary = summarise([synthetic.run(plan, by_episode(1.0, 2.0), segments=2, computes=sessions)])
    (said,) = caveat(summary, "mixed computing")
    assert said.items == ("m: step fused kernels and plain PyTorch; threads 1 and 2",)


def test_runs_that_compute_otherwise_are_named_only_where_both_count(synthetic):
    def run(seed, **facts):
        plan = synthetic.plan([synthetic.agent("m")], [synthetic.task("x/1")], 1, seed=seed)
        return synthetic.run(plan, by_episode(1.0), computes=[computed(**facts)])

    assert not caveat(summarise([run(0), run(1)]), "mixed computing")
    assert not caveat(summarise([run(0), run(0, device="cuda")]), "mixed computing")
    (said,) = caveat(summarise([run(0), run(1, device="cuda")]), "mixed computing")
    assert said.items == ("m: device cpu and cuda",)


def test_sessions_of_which_nothing_is_known_or_scored_are_no_difference(synthetic):
    plan = synthetic.plan([synthetic.agent("m")], [synthetic.task("x/1")], 2)
    unknown = [{}, computed()]
    assert not caveat(
        summarise([synthetic.run(plan, by_episode(1.0, 2.0), segments=2, computes=unknown)]),
        "mixed computing",
    )
    sessions = [computed(), computed(device="cuda")]
    assert not caveat(
        summarise([synthetic.run(plan, by_episode(1.0, CRASH), segments=2, computes=sessions)]),
        "mixed computing",
    )


def test_a_domain_played_with_several_versions_of_its_simulator_is_said(synthetic):
    plan = synthetic.plan([synthetic.agent("m")], [synthetic.task("x/1"), synthetic.task("y/1")], 1)
    first = {"x": {"python": "3.11.7", "mujoco": "2.3.2", "numpy": "1.26.4"}, "y": {"ale-py": "0.12.1"}}
    other = {"x": {"python": "3.10.1", "mujoco": "3.3.0", "numpy": "1.26.4"}, "y": {"ale-py": "0.12.1"}}

    def said(*workers):
        runs = []
        for seed, one in enumerate(workers):
            its = synthetic.plan([synthetic.agent("m")], [synthetic.task("x/1")], 1, seed=seed)
            runs.append(synthetic.run(its, by_episode(1.0), workers=[one]))
        return caveat(summarise(runs), "several simulator versions")

    assert not said(first, first)
    assert not said(first, {"x": {**first["x"], "python": "3.12.1"}})
    (across_runs,) = said(first, other)
    assert across_runs.items == ("x: mujoco 2.3.2 and 3.3.0",)
    sessions = synthetic.run(plan, by_episode(1.0), segments=2, workers=[first, other])
    assert not caveat(summarise([sessions]), "several simulator versions")  # each task in one session
    plan = synthetic.plan([synthetic.agent("m")], [synthetic.task("x/1")], 2)
    resumed = synthetic.run(plan, by_episode(1.0, 2.0), segments=2, workers=[first, other])
    assert caveat(summarise([resumed]), "several simulator versions")


def test_runs_of_earlier_versions_are_said_to_be_without_checksums(synthetic):
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("atari/pong")], 2)
    run = synthetic.run(plan, lambda item: 1.0, name="older")
    assert not [one for one in summarise([run]).caveats if one.kind == "no checksums"]
    for file in (run.path / "run.json", *run.path.glob("records/*.jsonl")):
        file.write_bytes(without_checksum(file.read_bytes()))
    (caveat,) = [one for one in summarise([Run(run.path)]).caveats if one.kind == "no checksums"]
    assert caveat.items == ("older: run.json", "older: records/0001.jsonl")


def test_one_label_of_two_sources_is_refused(synthetic):
    agent = synthetic.agent("mine", spec="mine:make")
    plans = [
        synthetic.plan([replace(agent, code={"mine": digest})], [synthetic.task("atari/pong")], 2, seed=seed)
        for seed, digest in enumerate(("1" * 64, "2" * 64))
    ]
    runs = [synthetic.run(plan, lambda item: 1.0) for plan in plans]
    with pytest.raises(LramError, match="stands for two agents in these runs \\(different source in mine"):
        summarise(runs)


@pytest.mark.parametrize("order", ["oab", "aob", "abo"])
def test_an_older_run_without_noted_source_hides_no_other_source(synthetic, order):
    codes = {"o": {}, "a": {"mine": "1" * 64}, "b": {"mine": "2" * 64}}
    agent = synthetic.agent("mine", spec="mine:make")
    runs = [
        synthetic.run(
            synthetic.plan([replace(agent, code=codes[name])], [synthetic.task("atari/pong")], 2, seed=seed),
            lambda item: 1.0,
        )
        for seed, name in enumerate(order)
    ]
    with pytest.raises(LramError, match="stands for two agents in these runs \\(different source in mine"):
        summarise(runs)
    [found] = collect([run for run, name in zip(runs, order, strict=True) if name != "b"]).agents
    assert found.code == codes["a"]


def test_the_iqm_is_named_apart_and_has_no_interval(synthetic):
    run = synthetic.study(agents=2)
    summary = summarise([run])
    for agent in summary.agents:
        assert agent.aggregates["iqm_of_task_means"].estimate.interval is None
        assert agent.aggregates["iqm_of_task_means"].estimate.note == "no interval holds"
    table = tables.headline(summary).printed
    assert table.columns[2].heading == "IQM of task means"
    assert all(row[2].small == row[2].flag == "" for row in table.rows)
    assert "not rliable's" in table.caption
    rows = list(aggregates(summary).records())
    assert {row["aggregate"] for row in rows} == {metric.key for metric in AGGREGATES}
    doubts = {row["aggregate"]: row["value_doubt"] for row in rows}
    assert doubts == {
        "mean_of_domain_means": "few episodes",
        "iqm_of_task_means": None,
        "median": None,
        "optimality_gap": "few episodes",
    }

"""The task table and selections from it."""

from __future__ import annotations

from collections import Counter

import pytest

from lram.envs.errors import SelectionError
from lram.envs.registry import DEMO_SUITE, all_tasks, benchmark_tasks, left_out, load_domain, select, suites
from lram.envs.scores import audit, normalise

SPLITS = {
    "atari": (41, 5),
    "composuite": (240, 16),
    "dmcontrol": (11, 5),
    "metaworld": (45, 5),
    "mimicgen": (83, 2),
    "procgen": (12, 4),
}


def test_the_table_holds_the_papers_432_and_37_tasks_in_their_domains() -> None:
    counts = Counter((task.domain, task.split) for task in benchmark_tasks())
    assert {d: (counts[d, "train"], counts[d, "heldout"]) for d in SPLITS} == SPLITS
    assert len({task.id for task in benchmark_tasks()}) == 469


def test_every_row_states_its_target_its_horizon_and_the_source_of_each_number() -> None:
    for task in benchmark_tasks():
        sources = dict(task.sources)
        assert task.target_return is not None
        assert task.horizon
        assert task.action_size
        assert {"target_return", "reward_scale", "horizon", "action_size"} <= sources.keys(), task.id
        assert ("score" in sources) == (task.score_reference is not None), task.id
        assert "" not in sources.values()


@pytest.mark.parametrize(
    ("task_id", "target", "scale", "random", "reference"),
    [
        ("atari/freeway", 34.0, 20.0, 0.0, 29.6),
        ("metaworld/reach-v3", 1905.1067, 200.0, 147.103, 1905.1068),
        ("dmcontrol/hopper-stand", 975.575, 100.0, 1.296, 266.783),
        ("composuite/IIWA_Box_None_Push", 423.2112, 1.0, 38.436, 423.2112),
    ],
)
def test_numbers_are_those_of_the_reference(
    task_id: str, target: float, scale: float, random: float, reference: float
) -> None:
    task = all_tasks()[task_id]
    assert (task.target_return, task.reward_scale) == (target, scale)
    assert (task.score_random, task.score_reference) == (random, reference)


def test_success_references_that_are_ours_are_marked() -> None:
    filled = [t for t in benchmark_tasks() if dict(t.sources).get("score", "").endswith("(ours)")]
    assert len(filled) == 42
    assert all(t.domain == "mimicgen" and t.name.endswith(("-IIWA", "-UR5e")) for t in filled)
    assert all((t.score_random, t.score_reference) == (0.0, 1.0) for t in filled)


def test_the_audit_names_exactly_the_tasks_without_a_reference() -> None:
    refused = {task.id: reason for task in benchmark_tasks() if (reason := audit(task))}
    assert refused == dict.fromkeys(("atari/carnival", "atari/pooyan"), "no score reference")


def test_a_reference_that_is_not_above_random_gives_no_score() -> None:
    from dataclasses import replace

    task = replace(all_tasks()["atari/freeway"], score_random=8.351, score_reference=4.877)
    assert "not above" in str(audit(task))
    assert normalise(task, 6.0) is None


def test_scores_are_0_at_random_and_1_at_the_reference() -> None:
    for task in benchmark_tasks():
        if audit(task) is None:
            assert task.score_random is not None
            assert task.score_reference is not None
            assert normalise(task, task.score_random) == 0.0
            assert normalise(task, task.score_reference) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        ("lram432", 432),
        ("*", 469),
        ("@heldout", 37),
        ("metaworld", 50),
        ("metaworld/*", 50),
        ("metaworld45", 45),
        ("metaworld@heldout", 5),
        ("metaworld/door-*", 4),
        ("atari/freeway,atari/freeway", 1),
        ("atari41,!atari/freeway,!*/pooyan", 39),
        ("!composuite,!mimicgen", 128),
        ("!atari,lram37", 32),
        ("lram37,!atari", 32),
        ("!atari/freeway,atari/freeway,atari/pong", 1),
        ("composuite/*_Push@train", 60),
        ("demo8", 8),
    ],
)
def test_selections(selection: str, count: int) -> None:
    assert len(select(selection)) == count


def test_a_selection_keeps_the_order_of_the_table() -> None:
    assert [t.id for t in select("procgen/bigfish,atari/breakout")] == [
        t.id for t in benchmark_tasks() if t.id in ("atari/breakout", "procgen/bigfish")
    ]


def test_wildcards_leave_out_tasks_that_are_not_the_papers() -> None:
    assert not [t for t in select("*") if t.domain == "toy"]
    assert {t.domain for t in select("toy")} == {"toy"}


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ("atari/freway", "'atari/freway'; did you mean 'atari/freeway'?"),
        ("lram423", "did you mean"),
        ("metaworld@test", "no split 'test'"),
        ("", "empty"),
        (" , ", "empty"),
        ("atari/freeway,!atari", "leaves no task"),
        ("nothing-like-it/at-all", "'lram tasks' lists what there is"),
    ],
)
def test_a_selection_of_nothing_says_which_term_and_what_next(selection: str, words: str) -> None:
    with pytest.raises(SelectionError) as caught:
        select(selection)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_suites_are_named_by_their_sizes() -> None:
    for name, ids in suites().items():
        assert name.endswith(str(len(ids)))
    assert set(DEMO_SUITE) <= all_tasks().keys()


def test_every_domain_of_the_paper_has_an_adapter_and_others_are_refused() -> None:
    for name in {task.domain for task in benchmark_tasks()}:
        assert load_domain(name).name == name
    with pytest.raises(SelectionError, match="did you mean 'atari'"):
        load_domain("attari")


def test_patterns_leave_out_tasks_that_are_made_to_fail_and_name_them() -> None:
    faulty = {f"toy/{name}" for name in load_domain("toy").faulty}
    assert "toy/hang" in faulty
    for selection in ("toy", "toy/*", "toy@extra"):
        assert not {task.id for task in select(selection)} & faulty
        assert {task.id for task in left_out(selection)} == faulty
    assert [task.id for task in select("toy/hang")] == ["toy/hang"]
    assert left_out("toy/hang") == []
    assert {"toy/hang", "toy/reach"} <= {task.id for task in select("toy/*,toy/hang")}
    assert {task.id for task in left_out("toy/*,toy/hang,!toy/crash")} == faulty - {"toy/hang", "toy/crash"}
    assert [task.id for task in select("toy/hang,toy/reach,!toy/h*")] == ["toy/reach"]
    with pytest.raises(SelectionError, match=r"only tasks that are made to fail \(toy/hang\)"):
        select("toy/h*")
    assert left_out("*") == []

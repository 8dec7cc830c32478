"""The domain ``memory``: streams, questions, exact scores, controllers that reach them."""

from __future__ import annotations

import numpy as np
import pytest

from lram.agents.api import Episode, TaskSpec
from lram.agents.experts.baselines import ScriptedAgent
from lram.envs.conformance import check_session
from lram.envs.domains.memory import keydoor
from lram.envs.domains.memory.domain import DOMAIN, FAMILIES, PROTOCOLS, dial, parsed
from lram.envs.domains.memory.family import MemoryOptions
from lram.envs.domains.memory.layout import ASKED, BLOCK, FIRST, MARK, SECOND, WIDTH
from lram.envs.domains.memory.questions import NOT_ASKED, QuestionSession, Stream
from lram.envs.errors import SelectionError
from lram.envs.registry import all_tasks, select
from lram.envs.session import Session, SessionError
from lram.envs.task import Dial, Task

DENSE = DOMAIN.protocol("dense")
FINAL = DOMAIN.protocol("final")
STREAMS = [name for name, family in FAMILIES.items() if family.kind != "in-context"]
SMALL = [f"{family.name}-{family.trained[0]}" for family in FAMILIES.values()]


def stream(name: str, seed: int, protocol=DENSE) -> Stream:
    session = DOMAIN.make(name, protocol)
    assert isinstance(session, QuestionSession)
    return session._draw(session._options.generator(seed), session._value, session._options.questions)


def play(session: Session, task: Task, seed: int) -> list:
    """Play an episode as ``scripted`` does; return its steps."""
    agent = ScriptedAgent()
    state = agent.start(1)
    spec = TaskSpec(
        task.id, "memory", "vector", (WIDTH,), "discrete", task.action_size or 0, task.target_return, 1.0
    )
    agent.reset(state, [0], [Episode(spec, 0)])
    seen, reward, steps = session.reset(seed), 0.0, []
    while not steps or not steps[-1].terminated:
        (action,), state = agent.act(state, [seen], [reward], [0])
        steps.append(session.step(action))
        seen, reward = steps[-1].observation, steps[-1].signal
    return steps


@pytest.mark.parametrize("name", [*SMALL, "parity-2"])
@pytest.mark.parametrize("protocol", [PROTOCOLS[0], PROTOCOLS[-1]], ids=lambda protocol: protocol.name)
def test_memory_tasks_keep_the_contract(name: str, protocol) -> None:
    task = select(f"memory/{name}")[0]
    check_session(lambda: DOMAIN.make(name, protocol), seeds=(7, 10), limit=task.horizon)


def test_the_walls_of_a_maze_vary_and_say_nothing_of_the_cue() -> None:
    """Trajectories are held out by what they hold: of two kinds, one would be left to learn from."""
    drawn = [stream("tmaze-10", seed) for seed in range(400)]
    assert len({one.observations.tobytes() for one in drawn}) > 390
    walls = np.array([one.observations[1:-1, SECOND : SECOND + 4] for one in drawn])
    answers = np.array([one.answers[-1] for one in drawn])
    assert (walls.sum(axis=2) == 1).all()
    assert not any(
        one.observations[1:, FIRST:SECOND].any() or one.observations[-1, MARK:].any() for one in drawn
    )
    apart = walls[answers == 0].mean(axis=0) - walls[answers == 1].mean(axis=0)
    assert np.abs(apart).max() < 4 * np.sqrt(3 / 16 / 400 * 4)


def test_small_dials_are_for_training_and_larger_ones_held_out() -> None:
    trained, held_out = select("memory@train"), select("memory@heldout")
    assert len(trained) + len(held_out) == len(select("memory")) == len(DOMAIN.tasks)
    largest = {}
    for task in trained:
        found = dial(task.name)
        assert found is not None
        largest[found.family] = max(found.value, largest.get(found.family, 0))
    for task in held_out:
        found = dial(task.name)
        assert found is not None
        assert found.value > largest[found.family]
    assert set(largest) == set(FAMILIES)
    assert not [task for task in select("@heldout") if task.domain == "memory"]


def test_any_dial_makes_a_task_when_it_is_named() -> None:
    (made,) = select("memory:parity-64")
    assert made == select("memory/parity-64")[0]
    assert (made.id, made.split, made.horizon) == ("memory/parity-64", "extra", 64)
    assert select("memory:parity-10")[0] is all_tasks()["memory/parity-10"]
    assert [task.name for task in select("memory/tmaze-*@train")] == ["tmaze-10", "tmaze-20", "tmaze-50"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("parity", "the families are"),
        ("parity 10", "a name is a family and a number"),
        ("parity-010", "a whole number as in parity-10"),
        ("tmaze-1e9", "to the choice of tmaze are from [0-9]+ to [0-9]+, a whole number"),
        ("parity-0", "the bits of parity are from 2 to"),
        ("parity-99999999", "the bits of parity are from 2 to"),
        ("parity-1", "the bits of parity are from 2 to"),
        ("keydoor-11", "from 2 to 10"),
        ("bandit-19", "from 2 to 18"),
        ("recall-1025", "from 1 to 1024"),
        ("mod7-10", "the families are"),
    ],
)
def test_a_name_that_is_none_is_refused_in_a_sentence(name: str, words: str) -> None:
    with pytest.raises(SelectionError, match=words):
        select(f"memory/{name}")
    with pytest.raises(SessionError, match=words):
        DOMAIN.make(name, DENSE)
    assert dial(name) is None


def test_a_dial_is_told_with_its_family_and_what_theory_says() -> None:
    found = dial("parity-64")
    assert found == Dial("parity", 64, "bits", FAMILIES["parity"].theory)
    assert all(family.theory for family in FAMILIES.values())
    assert DOMAIN.attributes is not None
    assert DOMAIN.attributes("mod3-10") == {"family": "mod3", "kind": "tracking"}


@pytest.mark.parametrize("name", STREAMS)
def test_the_controller_answers_every_question(name: str) -> None:
    family = FAMILIES[name]
    for value in (family.least, family.trained[0], family.trained[-1], family.longer[0]):
        (task,) = select(f"memory/{name}-{value}")
        for protocol in (DENSE, FINAL):
            session = DOMAIN.make(task.name, protocol)
            for seed in range(2):
                steps = play(session, task, seed)
                assert sum(step.reward for step in steps) == task.score_reference == 1.0
                assert len(steps) == task.horizon
                assert [step.success for step in steps] == [False] * (len(steps) - 1) + [True]


@pytest.mark.parametrize("name", STREAMS)
def test_nothing_is_paid_before_the_end_and_then_the_share_of_right_answers(name: str) -> None:
    task = select(f"memory/{name}-{FAMILIES[name].trained[0]}")[0]
    session, drawn, rng = DOMAIN.make(task.name, DENSE), stream(task.name, 3), np.random.default_rng(0)
    session.reset(3)
    actions = rng.integers(task.action_size or 0, size=len(drawn.answers))
    steps = [session.step(int(action)) for action in actions]
    asked = drawn.answers != NOT_ASKED
    assert not any(step.reward for step in steps[:-1])
    assert steps[-1].reward == pytest.approx((actions == drawn.answers)[asked].mean())
    assert steps[-1].terminated


@pytest.mark.parametrize("name", STREAMS)
def test_answers_at_steps_without_a_question_count_nothing(name: str) -> None:
    task_name = f"{name}-{FAMILIES[name].trained[0]}"
    session, drawn = DOMAIN.make(task_name, DENSE), stream(task_name, 1)
    returns = []
    for other in range(2):
        session.reset(1)
        actions = np.where(drawn.answers == NOT_ASKED, other, drawn.answers)
        returns.append(sum(session.step(int(action)).reward for action in actions))
    assert returns == [1.0, 1.0]


@pytest.mark.parametrize("name", ["parity-40", "mod3-40", "swap5-40", "brackets-40", "repeat_first-40"])
def test_half_of_the_steps_ask_and_the_last_always_does(name: str) -> None:
    asked = np.array([stream(name, seed).answers != NOT_ASKED for seed in range(200)])
    first = {"parity": 1, "swap5": 5}.get(name.partition("-")[0], 1)
    assert not asked[:, :first].any()
    assert asked[:, -1].all()
    assert abs(asked[:, first:-1].mean() - 0.5) < 3 * 0.5 / np.sqrt(asked[:, first:-1].size)
    final = np.array([stream(name, seed, FINAL).answers != NOT_ASKED for seed in range(20)])
    assert not final[:, :-1].any()
    assert final[:, -1].all()


@pytest.mark.parametrize("name", STREAMS)
def test_an_agent_without_memory_is_at_chance(name: str) -> None:
    """The best answer to each observation, chosen with the answers at hand, is no better than chance.

    Over two halves of the episodes: chosen on one, counted on the other, so that what was chosen by luck
    goes.
    """
    value = FAMILIES[name].trained[0]
    tables: list[dict[bytes, np.ndarray]] = [{}, {}]
    for seed in range(600):
        drawn = stream(f"{name}-{value}", seed)
        for seen, answer in zip(drawn.observations, drawn.answers, strict=True):
            if answer != NOT_ASKED:
                counts = tables[seed % 2].setdefault(seen.tobytes(), np.zeros(10, int))
                counts[answer] += 1
    right = total = 0
    for chosen, counted in (tables, tables[::-1]):
        for seen, counts in counted.items():
            right += counts[int(chosen[seen].argmax()) if seen in chosen else 0]
            total += counts.sum()
    chance = FAMILIES[name].chance(value)
    # Questions of one episode are not independent: those of tmaze to recall share what was shown.
    allowed = 3 * np.sqrt(chance * (1 - chance) / min(total, 600))
    assert abs(right / total - chance) < allowed


@pytest.mark.parametrize("name", ["parity", "mod3", "mod5", "swap3", "swap5"])
def test_whoever_has_forgotten_the_start_is_at_chance(name: str) -> None:
    """All states are alike probable given the last two steps: chi-squared over what these may be."""
    value = 5
    seen: dict[bytes, np.ndarray] = {}
    first = {"swap3": 3, "swap5": 5}.get(name, 1)
    for seed in range(800):
        drawn = stream(f"{name}-{value}", seed)
        answer = drawn.answers[-1]
        window = drawn.observations[-2:].copy()
        window[0, ASKED] = 0.0
        window[0, SECOND:] *= not name.startswith("swap")  # an object that was asked for
        seen.setdefault(window.tobytes(), np.zeros(10, int))[answer] += 1
        assert len(drawn.answers) > first + 2
    states = FAMILIES[name].actions(value)
    assert len(seen) > 2
    statistic = sum(((c[:states] - c.sum() / states) ** 2).sum() / (c.sum() / states) for c in seen.values())
    freedom = len(seen) * (states - 1)
    assert statistic < freedom + 4 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("name", [*SMALL, "parity-320", "recall-64", "swap5-160", "keydoor-4"])
def test_random_play_earns_the_stated_chance(name: str) -> None:
    (task,) = select(f"memory/{name}")
    rng, returns = np.random.default_rng(5), []
    session = DOMAIN.make(name, DENSE)
    episodes = 40 if task.horizon > 80 else 200
    actions = rng.integers(task.action_size, size=(episodes, task.horizon)).tolist()
    for seed in range(episodes):
        session.reset(seed)
        total, step = 0.0, None
        for action in actions[seed]:
            step = session.step(action)
            total += step.reward
            if step.terminated:
                break
        assert step is not None
        assert step.terminated
        returns.append(total)
    error = np.std(returns) / np.sqrt(episodes)
    assert abs(np.mean(returns) - task.score_random) < 3.5 * error


def test_bits_of_keys_tell_keys_apart_and_values_are_asked_once_each() -> None:
    drawn = stream("recall-64", 0)
    keys = drawn.observations[:, SECOND:]
    assert set(np.unique(keys)) == {-1.0, 1.0}
    assert len({key.tobytes() for key in keys[:64]}) == 64
    assert {key.tobytes() for key in keys[:64]} == {key.tobytes() for key in keys[64:]}
    assert not drawn.observations[64:, FIRST:SECOND].any()
    assert [key.tobytes() for key in keys[:64]] != [key.tobytes() for key in keys[64:]]


def test_the_other_shape_of_a_match_has_nothing_to_do_with_what_was_seen() -> None:
    last, places = [], []
    for seed in range(500):
        drawn = stream("match-10", seed)
        shapes = drawn.observations[:, FIRST:SECOND].argmax(axis=1)
        pair = [int(shapes[-1]), int(drawn.observations[-1, SECOND:].argmax())]
        place = pair.index(int(shapes[0]))
        assert pair[0] != pair[1]
        assert place == drawn.answers[-1]
        last.append(pair[1 - place] == shapes[-2])
        places.append(place)
    assert abs(np.mean(last) - 1 / 8) < 3.5 * np.sqrt(7 / 64 / 500)
    assert abs(np.mean(places) - 1 / 2) < 3.5 * 0.5 / np.sqrt(500)


def test_brackets_never_leave_their_bounds_and_show_nothing_at_a_question() -> None:
    for seed in range(20):
        drawn = stream("brackets-160", seed)
        depth = int(drawn.observations[0, FIRST : FIRST + BLOCK].argmax())
        for seen, answer in zip(drawn.observations[1:], drawn.answers[1:], strict=True):
            depth += int(seen[SECOND] - seen[SECOND + 1])
            assert 0 <= depth <= 7
            assert seen[MARK:].any() == (answer == NOT_ASKED)
            assert answer in (NOT_ASKED, depth)


@pytest.mark.parametrize("name", SMALL)
def test_sets_of_episodes_share_no_generator(name: str) -> None:
    """The same seed begins with another generator in each set, under either way of asking."""
    states = set()
    for episodes in ("test", "training", "validation"):
        for seed in range(50):
            state = MemoryOptions("random", episodes).generator(seed).bit_generator.state["state"]["state"]
            states.add(state)
    assert len(states) == 150
    protocols = {one.options["episodes"] for one in PROTOCOLS}
    assert protocols == {"test", "training", "validation"}
    assert DOMAIN.protocol().options["episodes"] == "test"


def test_long_episodes_of_different_sets_are_never_the_same() -> None:
    drawn = {
        stream("parity-80", seed, DOMAIN.protocol(name)).observations[:, SECOND:].tobytes()
        for name in ("dense", "dense-training", "dense-validation")
        for seed in range(200)
    }
    assert len(drawn) == 600
    # Another way of asking shows the same stream.
    assert (
        stream("parity-80", 3).observations[:, MARK:] == stream("parity-80", 3, FINAL).observations[:, MARK:]
    ).all()


def test_a_bandit_shows_the_last_arm_and_whether_it_paid() -> None:
    session = DOMAIN.make("bandit-15", DENSE)
    session.reset(0)
    for pull in range(100):
        step = session.step(pull % 15)
        assert step.observation[MARK] == step.reward
        assert np.flatnonzero(step.observation[FIRST:]).tolist() == [pull % 15]
        assert step.terminated == (pull == 99)


def test_the_bandit_learner_loses_what_is_told_of_it() -> None:
    """83.5 of 90.9 with ten arms; counted in means of the pulled arms, which vary less than returns."""
    (task,) = select("memory/bandit-10")
    session, lost = DOMAIN.make(task.name, DENSE), []
    for seed in range(60):
        rng = MemoryOptions("random", "test").generator(seed)
        rng.random((100, 10))
        means = rng.random(10)
        pulled = [int(step.observation[FIRST:].argmax()) for step in play(session, task, seed)]
        lost.append(100 * means.max() - means[pulled].sum())
    assert abs(np.mean(lost) - 7.4) < 3 * 4.5 / np.sqrt(len(lost))


def test_the_searcher_finds_both_and_goes_straight_to_them_ever_after() -> None:
    (task,) = select("memory/keydoor-5")
    session = DOMAIN.make(task.name, DENSE)
    for seed in range(10):
        steps = play(session, task, seed)
        inner, paid = [], 0.0
        for step in steps:
            paid += step.reward
            if step.inner_episode_ends:
                inner.append(paid)
                paid = 0.0
        assert len(inner) == keydoor.INNER_EPISODES
        assert inner[-6:] == [2.0] * 6
        assert steps[-1].terminated


def test_the_searcher_learns_from_what_it_did_not_from_what_it_meant_to_do() -> None:
    """Half of its actions are replaced at first; what it then knows of key and door is right all the same."""
    (task,) = select("memory/keydoor-4")
    session, agent, rng = DOMAIN.make(task.name, DENSE), ScriptedAgent(), np.random.default_rng(0)
    spec = TaskSpec(task.id, "memory", "vector", (WIDTH,), "discrete", 5, 20.0, 1.0)
    for seed in range(12):
        state = agent.start(1)
        agent.reset(state, [0], [Episode(spec, 0)])
        seen, reward, inner = session.reset(seed), 0.0, [0.0]
        while len(inner) <= keydoor.INNER_EPISODES:
            (action,), state = agent.act(state, [seen], [reward], [0])
            if len(inner) < 5 and rng.random() < 0.5:
                action = int(rng.integers(5))
                agent.took(state, [0], [action])
            step = session.step(action)
            seen, reward = step.observation, step.reward
            inner[-1] += reward
            inner += [0.0] * step.inner_episode_ends
        assert inner[7:-1] == [2.0] * 3


def test_random_play_in_the_smallest_room_by_hand() -> None:
    """Two phases of a room of two by two, by the distribution over (cell, has key), forwards."""
    side, total = 2, 0.0
    for key in range(4):
        for door in set(range(4)) - {key}:
            chances = {(cell, False): 1 / 3 for cell in range(4) if cell != key}
            for _ in range(4):
                after: dict[tuple[int, bool], float] = {}
                for (cell, has), chance in chances.items():
                    for action in range(5):
                        reached = keydoor.moved(cell, action, side)
                        if has and reached == door:
                            total += chance / 5 / 12
                            continue
                        if not has and reached == key:
                            total += chance / 5 / 12
                        state = (reached, has or reached == key)
                        after[state] = after.get(state, 0.0) + chance / 5
                chances = after
    assert keydoor.random_return(2) == pytest.approx(10 * total, rel=1e-12)


def test_key_and_door_differ_and_no_start_is_on_the_key() -> None:
    session = DOMAIN.make("keydoor-3", DENSE)
    assert isinstance(session, keydoor.KeyDoorSession)
    pairs = set()
    for seed in range(800):
        session.reset(seed)
        pairs.add((session._key, session._door))
        assert session._cell != session._key
        assert session._key != session._door
    assert len(pairs) == 72


@pytest.mark.parametrize("name", ["parity-10", "bandit-2", "keydoor-3"])
def test_an_old_name_of_another_domain_is_no_dial(name: str) -> None:
    assert dial(name) is not None
    assert dial(name + "x") is None
    assert parsed(name)[1] > 0


def test_a_stream_and_a_room_can_be_drawn() -> None:
    for name, shape in (("parity-10", (264, 120, 3)), ("keydoor-3", (24, 24, 3))):
        session = DOMAIN.make(name, DENSE)
        session.reset(0)
        image = session.render()
        assert image.shape == shape
        assert image.dtype == np.uint8
        assert image.max() > 200

"""Protocols that hide a part of the state: the episode is the same, bit for bit, but for what is shown."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lram.envs import announced
from lram.envs.conformance import check_session
from lram.envs.perturbations import PerturbedSession
from lram.envs.random_play import measurements, random_play
from lram.envs.registry import benchmark_tasks, load_domain
from lram.envs.session import Session

DMCONTROL = load_domain("dmcontrol")
TOY = load_domain("toy")
PERTURBED = [protocol for protocol in DMCONTROL.protocols if protocol.perturbs]


def play(session: Session, seed: int, decisions: int = 24) -> tuple[list[np.ndarray], list[float]]:
    rng, seen, rewards = np.random.default_rng(1), [session.reset(seed)], []
    for _ in range(decisions):
        step = session.step(rng.uniform(-1, 1, session.spec.action_size).astype(np.float32))
        seen.append(step.observation)
        rewards.append(step.reward)
    return seen, rewards


def toy() -> Session:
    return TOY.make("reach", TOY.protocol())


@pytest.mark.parametrize(("delay", "dropped"), [(0, 0.3), (3, 0.0), (2, 0.5)])
def test_a_perturbed_session_keeps_the_contract(delay: int, dropped: float) -> None:
    check_session(lambda: PerturbedSession(toy(), delay=delay, dropped=dropped), limit=35)


@pytest.mark.parametrize("delay", [1, 2, 8])
def test_what_is_shown_late_is_what_was_to_be_seen_so_many_decisions_ago(delay: int) -> None:
    shown, paid = play(PerturbedSession(toy(), delay=delay), 3)
    seen, earned = play(toy(), 3)
    assert paid == earned
    for decision, observation in enumerate(shown):
        assert (observation == seen[max(decision - delay, 0)]).all()


def test_what_is_lost_is_the_last_one_that_arrived_at_the_stated_rate() -> None:
    lost = total = 0
    for seed in range(100):
        shown, paid = play(PerturbedSession(toy(), dropped=0.3), seed)
        seen, earned = play(toy(), seed)
        assert paid == earned
        last = 0
        assert (shown[0] == seen[0]).all()
        for decision in range(1, len(seen)):
            arrived = (shown[decision] == seen[decision]).all()
            last = decision if arrived else last
            assert (shown[decision] == seen[last]).all()
            lost, total = lost + (not arrived), total + 1
    assert abs(lost / total - 0.3) < 3 * np.sqrt(0.21 / total)


def test_every_perturbed_protocol_names_the_one_it_perturbs() -> None:
    assert [protocol.name for protocol in PERTURBED] == [
        "positions",
        *(f"delay-{late}" for late in (1, 2, 4, 8)),
        *(f"dropped-{percent}" for percent in (10, 30, 50)),
    ]
    assert {protocol.perturbs for protocol in PERTURBED} == {"lram"}
    assert DMCONTROL.protocol().perturbs == ""
    assert announced.flaw("dmcontrol", DMCONTROL) == ""


@pytest.mark.parametrize("perturbs", ["none", "positions", "delay-1"])
def test_a_protocol_that_perturbs_none_of_the_domains_own_is_refused(perturbs: str) -> None:
    wrong = dataclasses.replace(PERTURBED[1], perturbs=perturbs)
    domain = dataclasses.replace(DMCONTROL, protocols=(*DMCONTROL.protocols[:2], wrong))
    assert "no unperturbed protocol" in announced.flaw("dmcontrol", domain)


def test_random_play_earns_the_same_whatever_is_shown() -> None:
    task, base = next(key for key in measurements() if key[0].startswith("dmcontrol/"))
    measured = random_play(task, base)
    assert measured is not None
    assert random_play(task, "dmcontrol:delay-8@1") is measured
    assert random_play(task, "dmcontrol:gone@1") is None
    assert random_play(task, "nonsense") is None


@pytest.mark.parametrize("protocol", PERTURBED, ids=lambda protocol: protocol.name)
def test_physics_and_rewards_are_those_of_the_unperturbed_protocol(protocol) -> None:
    pytest.importorskip("dm_control", reason="needs lram-bench[dmcontrol]")
    seen, earned = play(DMCONTROL.make("cartpole-swingup", DMCONTROL.protocol()), 5)
    shown, paid = play(DMCONTROL.make("cartpole-swingup", protocol), 5)
    assert paid == earned
    assert any((one != other).any() for one, other in zip(seen, shown, strict=True))


def test_positions_hide_what_the_velocities_alone_decide_and_nothing_else() -> None:
    """The physics are asked: which entries change with the velocities while the positions stay."""
    pytest.importorskip("dm_control", reason="needs lram-bench[dmcontrol]")
    from lram.envs.domains.dmcontrol import DMControlOptions, DMControlSession

    rng = np.random.default_rng(0)
    bodies = {t.name.partition("-")[0]: t for t in benchmark_tasks() if t.domain == "dmcontrol"}
    assert len(bodies) == 10
    for task in bodies.values():
        session = DMCONTROL.make(task.name, DMCONTROL.protocol())
        assert isinstance(session, DMControlSession)
        environment = session._environment
        hiding = DMControlSession(task.name, environment, DMControlOptions(velocities=False))
        session.reset(1)
        physics, views = environment.physics, []
        state = physics.data.qpos.copy()
        for _ in range(3):
            physics.data.qpos[:] = state
            physics.data.qvel[:] = rng.normal(size=physics.data.qvel.size)
            physics.forward()
            shown = dict(environment.task.get_observation(physics))
            shown.pop("touch", None)  # forces of contacts, which follow from velocities, are no velocities
            views.append((session._observation(shown), hiding._observation(shown)))
        changed = (views[0][0] != views[1][0]) | (views[0][0] != views[2][0])
        assert changed.any(), task.id
        assert (views[0][1] == views[1][1]).all(), task.id
        assert (views[0][1] == np.where(changed, 0, views[0][0])).all(), task.id

"""POPGym's tasks play through the adapter of Gymnasium, at the scores that their rules give."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

pytest.importorskip("popgym", reason="needs lram-bench[popgym]")

from lram.envs.conformance import check_session
from lram.envs.errors import SelectionError
from lram.envs.registry import load_domain
from lram.envs.session import Session

GYM = load_domain("gym")


def make(name: str) -> Session:
    return GYM.make(f"popgym-{name}-v0", GYM.protocol())


def returned(session: Session, seed: int, held: int) -> float:
    """Return what answering with the oldest of the last ``held`` symbols (0: of all) earns."""
    seen = deque([int(session.reset(seed).argmax())], maxlen=held or None)
    total, over = 0.0, False
    while not over:
        step = session.step(seen[0])
        seen.append(int(step.observation.argmax()))
        total, over = total + step.reward, step.terminated or step.truncated
    return total


@pytest.mark.parametrize(
    "name", ["RepeatFirstEasy", "AutoencodeEasy", "HigherLowerEasy", "NoisyPositionOnlyPendulumHard"]
)
def test_popgym_keeps_the_contract(name: str) -> None:
    check_session(lambda: make(name), limit=300)


@pytest.mark.parametrize(("name", "held"), [("RepeatFirstEasy", 0), ("RepeatPreviousEasy", 4)])
def test_who_remembers_earns_one(name: str, held: int) -> None:
    session = make(name)
    assert [returned(session, seed, held) for seed in range(5)] == pytest.approx([1.0] * 5)


def test_random_play_earns_minus_a_half() -> None:
    session, rng, totals = make("RepeatFirstEasy"), np.random.default_rng(0), []
    for seed in range(60):
        session.reset(seed)
        total, over = 0.0, False
        while not over:
            step = session.step(int(rng.integers(4)))
            total, over = total + step.reward, step.terminated or step.truncated
        totals.append(total)
    assert abs(np.mean(totals) + 0.5) < 3 * np.std(totals) / np.sqrt(len(totals))


def test_pairs_of_numbers_are_refused_in_a_sentence() -> None:
    with pytest.raises(SelectionError, match="MultiDiscrete"):
        make("BattleshipEasy")

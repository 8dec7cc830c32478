"""``lerobot:FOLDER`` against LeRobot itself: the same actions on the same observations, by kind of policy.

    python tests/benchmarks/compare_lerobot.py /path/to/python/with/lerobot [FOLDER]

Each policy plays two episodes of toy/reach at once, in two lanes, as ``lram eval`` would have it. LeRobot
then acts on what was seen, one episode after the other, with one policy object. The table has the greatest
difference of an action and the time of a decision.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from lram.agents.api import Episode, TaskSpec
from lram.agents.factory import create_agent
from lram.envs.domains.toy import DOMAIN, make

SCRIPT = Path(__file__).with_name("lerobot_policies.py")
FEATURES = "{'observation.state': [0, 2], 'observation.environment_state': [0, 6]}"
TASK = TaskSpec("toy/reach", "toy", "vector", (6,), "continuous", 2, None, 1.0)
SEEDS = (11, 12)


def compare(python: str, folder: Path, scratch: Path) -> tuple[float, int, float, float]:
    """Return greatest difference, decisions, seconds to load, and milliseconds a decision."""
    began = time.perf_counter()
    agent = create_agent(f"lerobot:{folder}(python={python!r}, features={FEATURES})")
    loaded = time.perf_counter() - began
    sessions = [make("reach", DOMAIN.protocols[0]) for _ in SEEDS]
    seen: dict[str, list[np.ndarray]] = {str(seed): [] for seed in SEEDS}
    acted: dict[str, list[np.ndarray]] = {str(seed): [] for seed in SEEDS}
    state = agent.start(len(SEEDS))
    agent.reset(state, range(len(SEEDS)), [Episode(TASK, seed) for seed in SEEDS])
    observations = [session.reset(seed) for session, seed in zip(sessions, SEEDS, strict=True)]
    waiting, spent, decisions = list(range(len(SEEDS))), 0.0, 0
    while waiting:
        for lane in list(waiting):
            began = time.perf_counter()
            (action,), state = agent.act(state, [observations[lane]], [0.0], [lane])
            spent += time.perf_counter() - began
            decisions += 1
            seen[str(SEEDS[lane])].append(observations[lane])
            acted[str(SEEDS[lane])].append(np.asarray(action))
            step = sessions[lane].step(action)
            observations[lane] = step.observation
            if step.terminated or step.truncated:
                waiting.remove(lane)
    np.savez(scratch / "seen.npz", **{seed: np.array(one) for seed, one in seen.items()})
    subprocess.run([python, SCRIPT, "play", folder, scratch / "seen.npz", scratch / "own.npz"], check=True)
    with np.load(scratch / "own.npz") as own:
        worst = max(np.abs(np.clip(own[seed], -1, 1) - np.array(acted[seed])).max() for seed in acted)
    return float(worst), decisions, loaded, 1000 * spent / decisions


def main() -> None:
    python = sys.argv[1]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[2] if len(sys.argv) > 2 else scratch) / "policies"
        if not folder.is_dir():
            subprocess.run([python, SCRIPT, "make", folder], check=True)
        print(f"{'policy':<12}{'difference':>12}{'decisions':>11}{'load, s':>9}{'ms a decision':>15}")
        for one in sorted(folder.iterdir()):
            worst, decisions, loaded, each = compare(python, one, Path(scratch))
            print(f"{one.name:<12}{worst:>12.3g}{decisions:>11}{loaded:>9.1f}{each:>15.2f}", flush=True)


if __name__ == "__main__":
    main()

"""Record small Minari data sets with Minari's own collector, and what the package itself reads of them.

Run in an environment that has minari[hdf5] and gymnasium[classic-control], from the root of the repository::

    python tests/benchmarks/record_minari.py tests/data/minari

The folder is what ``MINARI_DATASETS_PATH`` would name. ``expected.npz`` holds the arrays of each episode
under ``ID/EPISODE/KEY``.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

DATASETS = {
    "pendulum/random-v0": ("Pendulum-v1", {"max_episode_steps": 12}, 3),
    "pendulum/heavy-v0": ("Pendulum-v1", {"max_episode_steps": 6, "g": 12.0}, 1),
    "cartpole/random-v1": ("CartPole-v1", {"max_episode_steps": 15}, 3),
}


def record(folder: Path) -> None:
    """Write data sets and arrays into ``folder``."""
    os.environ["MINARI_DATASETS_PATH"] = str(folder.resolve())
    import minari

    expected: dict[str, Any] = {}
    for name, (environment, options, episodes) in DATASETS.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        env = minari.DataCollector(gymnasium.make(environment, **options), record_infos=False)
        env.action_space.seed(1)
        for episode in range(episodes):
            env.reset(seed=episode)
            done = False
            while not done:
                _, _, terminated, truncated, _ = env.step(env.action_space.sample())
                done = terminated or truncated
        made = env.create_dataset(name, algorithm_name="random", description="Made up.")
        env.close()
        for episode in made.iterate_episodes():
            for key in ("observations", "actions", "rewards", "terminations", "truncations"):
                expected[f"{name}/{episode.id}/{key}"] = np.asarray(getattr(episode, key))
    np.savez_compressed(folder / "expected.npz", **expected)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    record(parser.parse_args().folder)

"""Policies of LeRobot by LeRobot itself: made with random weights, and asked as its own evaluation asks them.

Run by a Python that has LeRobot; compare_lerobot.py does that.

    python lerobot_policies.py make FOLDER
    python lerobot_policies.py play FOLDER SEEN.npz ACTIONS.npz
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

SMALL = {"pretrained_backbone_weights": None}
ACT = {"dim_model": 32, "n_heads": 2, "dim_feedforward": 64, "n_encoder_layers": 1, "latent_dim": 8, **SMALL}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "act": ("act", {"chunk_size": 8, "n_action_steps": 4, **ACT}),
    "ensemble": ("act", {"chunk_size": 8, "n_action_steps": 1, "temporal_ensemble_coeff": 0.01, **ACT}),
    "diffusion": (
        "diffusion",
        {
            "horizon": 8,
            "n_action_steps": 4,
            "down_dims": (16, 32, 64),
            "num_inference_steps": 4,
            "diffusion_step_embed_dim": 16,
            "n_groups": 4,
            **SMALL,
        },
    ),
    "tdmpc": (
        "tdmpc",
        {
            "n_gaussian_samples": 16,
            "n_pi_samples": 4,
            "n_elites": 4,
            "cem_iterations": 2,
            "latent_dim": 8,
            "mlp_dim": 16,
            "state_encoder_hidden_dim": 16,
            "horizon": 3,
            "n_action_steps": 2,
            "n_action_repeats": 1,
        },
    ),
}


def make(out: Path) -> None:
    """Save one policy of each kind, for 6 numbers and 2 actions."""
    torch.manual_seed(0)
    inputs = {
        "observation.state": PolicyFeature(FeatureType.STATE, (2,)),
        "observation.environment_state": PolicyFeature(FeatureType.ENV, (6,)),
    }
    outputs = {"action": PolicyFeature(FeatureType.ACTION, (2,))}
    statistics = {
        name: {
            "mean": torch.linspace(-0.1, 0.1, size),
            "std": torch.linspace(0.5, 1, size),
            "min": -torch.ones(size),
            "max": torch.ones(size),
        }
        for name, size in (("observation.state", 2), ("observation.environment_state", 6), ("action", 2))
    }
    for name, (kind, options) in KINDS.items():
        config = make_policy_config(
            kind, device="cpu", push_to_hub=False, input_features=inputs, output_features=outputs, **options
        )
        policy = get_policy_class(kind)(config)
        for part in (policy, *make_pre_post_processors(config, dataset_stats=statistics)):
            part.save_pretrained(out / name)


def play(folder: Path, seen: Path, out: Path) -> None:
    """Act on the observations of each episode in turn, with one policy object and its own ``reset``."""
    torch.set_num_threads(1)
    config = PreTrainedConfig.from_pretrained(folder)
    policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    before, after = make_pre_post_processors(config, pretrained_path=str(folder))
    actions = {}
    with np.load(seen) as episodes, torch.inference_mode():
        for seed, observations in episodes.items():
            torch.manual_seed(int(seed))
            policy.reset()
            given = []
            for one in torch.from_numpy(observations):
                batch = {
                    "observation.state": one[None, :2],
                    "observation.environment_state": one[None],
                    "task": "reach",
                }
                given.append(after(policy.select_action(before(batch)))[0].numpy())
            actions[seed] = np.array(given)
    np.savez(out, **actions)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        play(*map(Path, sys.argv[2:]))

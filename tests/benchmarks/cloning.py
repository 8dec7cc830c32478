"""What limits behaviour cloning of one DMControl task: the data played, the labels, the loss, or the model?

    python tests/benchmarks/cloning.py dmcontrol/cartpole-swingup --network mse
    python tests/benchmarks/cloning.py dmcontrol/cartpole-swingup --wide --labels scripted --smoothing 6
    python tests/benchmarks/cloning.py dmcontrol/cartpole-swingup --network xlstm --wide --labels scripted

Plays a scripted policy, or where there is none the trained actor, with noise (15 episodes without and 15 with
~0.1x5; --wide: 8 each without, with ~0.3x10 and with ~0.5x20), learns its actions from all but two episodes,
and plays what was learned on other seeds. The networks: ``mse`` and ``bins``, three layers of 128 on the
observation alone, with a regression or with the 256 bins of an action model, which acts by the likeliest bin
(``argmax``) or by the mean of the bins (``mean``); ``xlstm``, an action model of two blocks of width 64 on
windows of 50 timesteps, which acts with its state carried and made fresh every 50 decisions. One line of
JSON; one seed, a few episodes: for large effects. docs/results/zoo.md has what was found.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import Episode, TaskSpec
from lram.agents.compute import Compute
from lram.agents.experts.actors import actor_tasks, load_actor
from lram.agents.experts.heuristics import CONTROLLERS
from lram.agents.model.config import config_from_dict
from lram.agents.model.network import build_model
from lram.agents.model.tokens import DISCRETE_ACTIONS, action_to_classes
from lram.agents.training.losses import losses, spread_targets
from lram.envs.registry import load_domain, select

Array = np.ndarray[Any, Any]
Policy = Callable[[Array, Array, int], Array]  # observations (n, 204), last rewards (n,), decision -> actions
NARROW = ((15, 100, 0.0, 1), (15, 200, 0.1, 5))  # episodes, first seed, share of noise, burst
WIDE = ((8, 300, 0.0, 1), (8, 350, 0.3, 10), (8, 400, 0.5, 20))
DECISIONS, CONTEXT = 1000, 50


def play(task: str, policy: Policy, seeds: range) -> tuple[Array, Array, Array]:
    """Play an episode of each seed; return observations, actions and rewards, (episodes, decisions, ...)."""
    domain = load_domain("dmcontrol")
    sessions = [domain.make(task.split("/")[1], domain.protocol(None)) for _ in seeds]
    seen = np.stack([one.reset(seed) for one, seed in zip(sessions, seeds, strict=True)])
    rewards, rows = np.zeros(len(sessions)), []
    for decision in range(DECISIONS):
        actions = np.clip(policy(seen, rewards, decision), -1, 1).astype(np.float32)
        steps = [one.step(action) for one, action in zip(sessions, actions, strict=True)]
        rewards = np.array([step.reward for step in steps])
        rows.append((seen, actions, rewards))
        seen = np.stack([step.observation for step in steps])
    for one in sessions:
        one.close()
    observed, acted, earned = (np.stack(column, 1) for column in zip(*rows, strict=True))
    return observed, acted, earned


def controller_of(task: str) -> Callable[[Array], Any]:
    """Return the scripted policy of a task, or else its trained actor."""
    return CONTROLLERS[task] if task in CONTROLLERS else load_actor(task)


def noisy(task: str, share: float, burst: int, seed: int) -> Policy:
    """Return the scripted policy, its actions replaced in bursts as by ``scripted~SHARExBURST``."""
    controller, rng, states = controller_of(task), np.random.default_rng(seed), {}

    def act(seen: Array, rewards: Array, decision: int) -> Array:
        actions = np.stack([controller(one) for one in seen])
        for lane in range(len(seen) if share else 0):
            left, held = states.get(lane, (0, None))
            if left == 0 and rng.random() < share / (share + burst * (1 - share)):
                left, held = burst, rng.uniform(-1, 1, actions.shape[1])
            if left > 0:
                actions[lane], left = held, left - 1
            states[lane] = (left, held)
        return actions

    return act


def collected(task: str, wide: bool, labels: str) -> tuple[Array, Array, Array]:
    """Return observations, the actions to learn, and rewards."""
    parts = [
        play(task, noisy(task, share, burst, number if wide else 0), range(first, first + count))
        for number, (count, first, share, burst) in enumerate(WIDE if wide else NARROW)
    ]
    seen, actions, rewards = (np.concatenate(column) for column in zip(*parts, strict=True))
    if labels == "scripted":
        controller = controller_of(task)
        actions = np.stack([[controller(one) for one in episode] for episode in seen])
    return seen, actions, rewards


def deviations(states: Array) -> tuple[Array, Array]:
    """Return mean and deviation; 1 where a number never varies."""
    deviation = states.std(0)
    return states.mean(0), np.where(deviation < 1e-6, 1, np.maximum(deviation, 0.01))


def clone_states(
    seen: Array, actions: Array, network: str, smoothing: float, updates: int
) -> tuple[dict[str, Any], dict[str, Policy]]:
    """Learn the action from the observation alone, by regression or over bins."""
    size, held = actions.shape[-1], [0, len(seen) - 1]
    rest = [number for number in range(len(seen)) if number not in held]
    mean, deviation = deviations(seen[rest].reshape(-1, seen.shape[-1]))

    def read(states: Array) -> Tensor:
        return torch.from_numpy(((states.reshape(-1, seen.shape[-1]) - mean) / deviation).astype(np.float32))

    torch.manual_seed(0)
    widths = (seen.shape[-1], 128, 128, 128)
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    net = nn.Sequential(*layers, nn.Linear(128, size if network == "mse" else 256 * size))
    targets, centers = spread_targets(smoothing), (torch.arange(256) + 0.5) / 128 - 1

    def loss_of(out: Tensor, taken: Tensor) -> Tensor:
        if network == "mse":
            return F.mse_loss(out, taken)
        logits, bins = out.view(-1, 256).log_softmax(-1), ((taken + 1) * 128).long().clamp(0, 255).view(-1)
        if targets is None:
            return F.nll_loss(logits, bins)
        return -(targets[DISCRETE_ACTIONS:, DISCRETE_ACTIONS:][bins] * logits).sum(-1).mean()

    def decoded(out: Tensor, how: str) -> Tensor:
        if network == "mse":
            return out.clamp(-1, 1)
        out = out.view(-1, size, 256)
        return centers[out.argmax(-1)] if how == "argmax" else (out.softmax(-1) * centers).sum(-1)

    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    inputs, taken = read(seen[rest]), torch.from_numpy(actions[rest].reshape(-1, size))
    generator = torch.Generator().manual_seed(0)
    for _ in range(updates):
        rows = torch.randint(len(inputs), (256,), generator=generator)
        loss = loss_of(net(inputs[rows]), taken[rows])
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    found: dict[str, Any] = {"train": round(loss.item(), 3)}
    hows = ("mse",) if network == "mse" else ("argmax", "mean")
    with torch.inference_mode():
        out, unseen = net(read(seen[held])), torch.from_numpy(actions[held].reshape(-1, size))
        found["held_out"] = round(float(loss_of(out, unseen)), 3)
        for how in hows:
            found[f"error_{how}"] = round(float((decoded(out, how) - unseen).abs().mean()), 3)

    def policy(how: str) -> Policy:
        return lambda states, rewards, decision: decoded(net(read(states)), how).numpy()

    return found, {how: policy(how) for how in hows}


def clone_windows(
    task: str, seen: Array, actions: Array, rewards: Array, smoothing: float, updates: int
) -> tuple[dict[str, Any], dict[str, Policy]]:
    """Learn from windows by a small action model, as a recipe's training does."""
    spec, size, held = select(task)[0], actions.shape[-1], [0, len(seen) - 1]
    rest = np.array([number for number in range(len(seen)) if number not in held])
    scaled = rewards / spec.reward_scale
    to_go = np.cumsum(scaled[:, ::-1], 1)[:, ::-1]
    classes = np.full((*actions.shape[:2], 8), action_to_classes(0.0))
    classes[..., :size] = action_to_classes(actions)
    model = build_model(config_from_dict({"width": 64, "layers": 2, "backbone": "xlstm"}), 0)
    mean, deviation = (torch.from_numpy(part) for part in deviations(seen[rest].reshape(-1, seen.shape[-1])))
    with torch.no_grad():
        model.encoders.state.weight.div_(deviation)
        model.encoders.state.bias.sub_(model.encoders.state.weight @ mean)
    targets, rng = spread_targets(smoothing), np.random.default_rng(0)

    def loss_at(episodes: Array, starts: Array) -> tuple[Tensor, Tensor, Tensor]:
        def cut(whole: Array, kind: type) -> Tensor:
            rows = [whole[one, at : at + CONTEXT] for one, at in zip(episodes, starts, strict=True)]
            return torch.from_numpy(np.stack(rows).astype(kind))

        logits = model(cut(seen, np.float32), cut(to_go, np.float32), cut(scaled, np.float32)).logits
        taken = cut(classes, np.int64)
        mask = torch.zeros_like(taken, dtype=torch.bool)
        mask[..., :size] = True
        return losses(logits, taken, mask, targets)[0], logits, taken

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True, weight_decay=0.01)
    model.train()
    last = []
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = (
            1e-3 * min(1, (update + 1) / 30) * (0.5 + 0.5 * np.cos(np.pi * update / updates))
        )
        episodes = rng.choice(rest, 16)
        loss, _, _ = loss_at(episodes, rng.integers(0, DECISIONS - CONTEXT + 1, 16))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        last.append(loss.item())
    count = DECISIONS // CONTEXT
    with torch.inference_mode():
        loss, logits, taken = loss_at(np.repeat(held, count), np.tile(np.arange(count) * CONTEXT, 2))
        bins = logits[..., :size, DISCRETE_ACTIONS:].argmax(-1) + DISCRETE_ACTIONS
        error = float((bins - taken[..., :size]).abs().float().mean()) / 128
    found = {"train": round(float(np.mean(last[-20:])), 3), "held_out": round(loss.item(), 3)}
    asked = float(np.quantile(to_go[rest, 0] * spec.reward_scale, 0.9))
    shown = TaskSpec(
        task, "dmcontrol", "vector", seen.shape[-1:], "continuous", size, asked, spec.reward_scale
    )
    agent = ModelAgent(model.eval(), trained=True, description="cloned", digest="", compute=Compute(rows=8))

    def policy(every: int) -> Policy:
        state = agent.start(8)

        def act(states: Array, earned: Array, decision: int) -> Array:
            lanes = list(range(len(states)))
            if decision == 0 or (every and decision % every == 0):
                before = state.earned.copy()
                before[lanes] += earned
                agent.reset(state, lanes, [Episode(shown, lane) for lane in lanes])
                state.earned[:] = before
            return np.stack(agent.act(state, list(states), earned.tolist(), lanes)[0])

        return act

    return {**found, "error": round(error, 3)}, {"carry": policy(0), "reset=50": policy(CONTEXT)}


def main() -> None:
    """Collect, learn, play, and print a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    tasks = {*CONTROLLERS, *actor_tasks()}
    parser.add_argument("task", choices=sorted(name for name in tasks if name.startswith("dmcontrol/")))
    parser.add_argument("--network", choices=("mse", "bins", "xlstm"), default="bins")
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--labels", choices=("taken", "scripted"), default="taken")
    parser.add_argument("--smoothing", type=float, default=0.0)
    parser.add_argument("--updates", type=int, default=0, help="2,000, or 400 of an xlstm")
    parser.add_argument("--episodes", type=int, default=4)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    seen, actions, rewards = collected(asked.task, asked.wide, asked.labels)
    if asked.network == "xlstm":
        made = clone_windows(asked.task, seen, actions, rewards, asked.smoothing, asked.updates or 400)
    else:
        made = clone_states(seen, actions, asked.network, asked.smoothing, asked.updates or 2000)
    found, policies = made
    scores = {}
    with torch.inference_mode():
        for how, policy in policies.items():
            earned = play(asked.task, policy, range(900, 900 + asked.episodes))[2]
            scores[how] = [round(float(one)) for one in earned.sum(1)]
    print(json.dumps({**vars(asked), **found, "returns": scores, "cpu_s": round(time.process_time(), 1)}))


if __name__ == "__main__":
    main()

"""Decisions a second: the usual loop with one environment against lanes that share passes.

For each domain, ways take turns on the same weights and the same tasks, all of them with the simulator's
time in it::

    OMP_NUM_THREADS=1 python tests/benchmarks/reference_loop.py --agent 'xlstm[7:1]-16M' -o loop.json

* ``token by token`` is how the public reference implementation of LRAM acts in its recurrent form: one
  environment in the process, a batch of one, and for each decision three calls of the model's step in plain
  PyTorch (state, return-to-go, reward), one decision after the other.
* ``one pass`` does the same with one call for the three tokens, and ``fused`` with the compiled step. They
  tell the gain from the step and the gain from lanes apart.
* ``N lanes`` is what ``lram eval`` does with N lanes (``--ours`` LANES:ROWS, the rows of a pass) and as many
  workers as there are cores.

A turn is some seconds of play that begin in the middle of episodes; what a way has to build comes before.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lram.agents.acting.actions import choose_action
from lram.agents.api import Episode, TaskSpec
from lram.agents.compute import Compute
from lram.envs.protocol_id import ProtocolId
from lram.envs.registry import load_domain
from lram.envs.session import Session
from lram.envs.workers.pool import Pool
from lram.harness.machine import calm_threads, threads
from lram.harness.plan import RunRequest, make_plan
from lram.harness.rollout.loop import Rollout, RolloutSettings, seeds
from lram.harness.rollout.translation import task_spec
from lram.harness.timing.intervals import median_interval

TASKS = {
    "atari": "breakout,freeway,qbert,seaquest",
    "procgen": "coinrun,starpilot,bigfish,maze",
    "dmcontrol": "walker-walk,cheetah-run,finger-spin,reacher-easy",
    "metaworld": "reach-v3,door-open-v3,pick-place-v3,button-press-v3",
}
_WARM_UP_S = 1.0

Turn = Callable[[float], int]
"""Plays for so many seconds and returns the decisions made."""


class TokenByToken:
    """The reference's recurrent way of acting, for one environment."""

    def __init__(self, agent: Any) -> None:
        """Act with the weights of ``agent``."""
        self.model, self.decode = agent.model, agent.model.config.decode

    def reset(self, task: TaskSpec, seed: int) -> None:
        """Begin an episode."""
        del seed
        self.task, self.earned = task, 0.0
        self.state = self.model.backbone.initial_state(1)

    def act(self, observation: Any, reward: float) -> Any:
        """Decide; ``reward`` was earned since the last decision."""
        task, encoders = self.task, self.model.encoders
        self.earned += reward
        with torch.inference_mode():
            if observation.ndim == 1:
                seen = np.zeros(self.model.config.state_width, dtype=np.float32)
                seen[: observation.size] = observation
            else:
                seen = observation
            to_go = ((task.target_return or 0.0) - self.earned) / task.reward_scale
            tokens = [
                encoders.observation(torch.from_numpy(seen).unsqueeze(0)),
                encoders.scalar(encoders.return_to_go, torch.tensor([to_go], dtype=torch.float32)),
                # The reference reads a zero here and never the reward itself; the time is the same.
                encoders.scalar(encoders.reward, torch.tensor([0.0])),
            ]
            x = encoders.norm(torch.stack(tokens, dim=1))
            hidden = []
            for place in range(3):
                y, self.state = self.model.backbone.step(x[:, place : place + 1], self.state)
                hidden.append(y)
            logits = self.model.action_logits(hidden[1][:, 0])[0].numpy()
        return choose_action(logits, task, self.decode)[0]


class OneLane:
    """An agent of this project in the same loop."""

    def __init__(self, agent: Any) -> None:
        """Act with one lane."""
        self.agent, self.state = agent, agent.start(1)

    def reset(self, task: TaskSpec, seed: int) -> None:
        """Begin an episode."""
        self.agent.reset(self.state, [0], [Episode(task, seed)])

    def act(self, observation: Any, reward: float) -> Any:
        """Decide."""
        (action,), self.state = self.agent.act(self.state, [observation], [reward], [0])
        return action


def loop(player: TokenByToken | OneLane, planned: list[Any], count: int) -> Turn:
    """Return turns of one environment in this process, task after task."""

    made: dict[str, Session] = {}

    def session_of(each: Any) -> Session:
        if each.task.id not in made:
            name = ProtocolId.parse(each.protocol).name
            domain = load_domain(each.task.domain)
            made[each.task.id] = domain.make(each.task.name, domain.protocol(name))
        return made[each.task.id]

    def decisions() -> Iterator[None]:
        episode = 0
        while True:
            for each in planned:
                session, spec = session_of(each), task_spec(each)
                seen = session.reset(seeds.simulator_seed(0, each.task.id, episode))
                player.reset(spec, 0)
                reward = 0.0
                # A part of each episode, so that a turn holds all tasks.
                for _ in range(count):
                    step = session.step(player.act(seen, reward))
                    seen, reward = step.observation, step.signal
                    yield
                    if step.terminated or step.truncated:
                        break
                    if step.context_reset:
                        player.reset(spec, 0)
                        reward = 0.0
            episode += 1

    playing = decisions()

    def turn(seconds: float) -> int:
        end, made = time.perf_counter() + seconds, 0
        while time.perf_counter() < end:
            next(playing)
            made += 1
        return made

    return turn


def lanes(how: argparse.Namespace, tasks: list[str], number: int, rows: int, stack: ExitStack) -> Turn:
    """Return turns of the driver that ``lram eval`` has."""
    plan, agents = make_plan(
        RunRequest(agents=how.agent, tasks=tasks, episodes=1000, compute=Compute(rows=rows))
    )
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    pool = stack.enter_context(Pool(log_folder=Path(folder), interpreters=plan.interpreters))
    settings = RolloutSettings(seed=0, lanes=number, workers=how.workers)
    rollout = Rollout(dict(agents), {each.task.id: each for each in plan.tasks}, pool, settings)
    rollout.start(plan.items(), lambda record: None)

    def turn(seconds: float) -> int:
        end, before = time.perf_counter() + seconds, rollout._decisions
        while time.perf_counter() < end:
            rollout.turn()
        return rollout._decisions - before

    return turn


def measure(how: argparse.Namespace, tasks: list[str]) -> dict[str, list[float]]:
    """Return decisions a second by way, one number a round."""
    base = RunRequest(agents=how.agent, tasks=tasks, episodes=1)
    plan, plain = make_plan(RunRequest(**{**vars_of(base), "compute": Compute(step="torch", rows=1)}))
    _, fused = make_plan(RunRequest(**{**vars_of(base), "compute": Compute(rows=1)}))
    (plain_agent,), (fused_agent,) = dict(plain).values(), dict(fused).values()
    planned = list(plan.tasks)
    with ExitStack() as stack:
        turns: dict[str, tuple[int, Turn]] = {
            "token by token": (1, loop(TokenByToken(plain_agent), planned, how.steps)),
            "one pass": (1, loop(OneLane(plain_agent), planned, how.steps)),
            "fused": (1, loop(OneLane(fused_agent), planned, how.steps)),
        }
        if how.threads > 1:
            also = loop(TokenByToken(plain_agent), planned, how.steps)
            turns[f"token by token, {how.threads} threads"] = (how.threads, also)
        for pair in how.ours.split(","):
            number, _, rows = pair.partition(":")
            name = f"{number} lanes, passes of {rows}"
            turns[name] = (1, lanes(how, tasks, int(number), int(rows), stack))
        rates: dict[str, list[float]] = {name: [] for name in turns}
        order, shuffle = list(turns), random.Random(0).shuffle
        for _ in range(how.repeats):
            shuffle(order)
            for name in order:
                count, turn = turns[name]
                with threads(count):
                    turn(_WARM_UP_S if rates[name] else how.start)
                    began = time.perf_counter()
                    rates[name].append(turn(how.seconds) / (time.perf_counter() - began))
                print(f"{name}: {rates[name][-1]:.0f} decisions/s", file=sys.stderr, flush=True)
    return rates


def vars_of(request: RunRequest) -> dict[str, Any]:
    """Return a request's fields."""
    return {name: getattr(request, name) for name in request.__dataclass_fields__}


def main() -> None:
    """Measure, print a table, and write JSON where it is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--agent", default="xlstm[7:1]-16M", help="an xLSTM or Mamba without past actions")
    parser.add_argument("--ours", default="16:8,32:16", help="LANES:ROWS, a comma list")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--threads", type=int, default=1, help="of the loop's tensor library, measured beside 1"
    )
    parser.add_argument("--domains", default=",".join(TASKS))
    parser.add_argument("--steps", type=int, default=200, help="of an episode that the loop plays")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn")
    parser.add_argument("--start", type=float, default=6.0, help="seconds before a way's first turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path)
    how = parser.parse_args()
    calm_threads()
    results: dict[str, Any] = {}
    for domain in how.domains.split(","):
        tasks = [f"{domain}/{name}" for name in TASKS[domain].split(",")]
        rates = measure(how, tasks)
        results[domain] = {}
        for name, made in rates.items():
            ratios = [ours / theirs for theirs, ours in zip(rates["token by token"], made, strict=True)]
            times = median_interval(ratios)
            results[domain][name] = {"decisions/s": made, "ratios": ratios}
            print(
                f"{domain:10} {name:28} {statistics.median(made):6.0f} decisions/s, "
                f"{times.median:5.2f} times [{times.low:.2f}, {times.high:.2f}]",
                flush=True,
            )
    if how.output:
        settings = {name: getattr(how, name) for name in ("agent", "ours", "workers", "seconds", "repeats")}
        how.output.write_text(json.dumps({**settings, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()

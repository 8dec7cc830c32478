"""Whole decisions in one recording, beside the same decisions in their parts.

The other checks listen to an agent's step, and so let it decide in parts: encoders, step and head after each
other. Where it acts by one recording of all of them (:mod:`lram.agents.acting.captured_decision`), that has
to give what the parts give, with all that goes into it: observations of both kinds, rewards, actions, masks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lram.agents.acting.captured_decision import PassInputs
from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import AgentError, Episode
from lram.agents.backbones.states import State
from lram.agents.checks.basis import allowance
from lram.agents.checks.contract import Check, Status
from lram.agents.checks.play import made_up_lanes, made_up_observation

RECORDED = "a recorded decision gives what its parts give"

DECISIONS = 5


def recorded_decisions(agent: ModelAgent, window: int | None, seed: int) -> list[Check]:
    """Compare the logits of some decisions; nothing to check where no recording of them is made.

    Not all lanes decide each time, and one begins anew in between.
    """
    decide = agent.reader.decision
    if decide is None:
        return []
    whole: list[Tensor | None] = []
    parts: list[Tensor] = []

    def at_once(inputs: PassInputs, state: State) -> tuple[Tensor, State] | None:
        done = decide(inputs, state)
        whole.append(None if done is None else done[0].to("cpu", torch.float32, copy=True))
        return done

    def head(hidden: Tensor) -> Tensor:
        logits = agent.reader.action_head(hidden)
        parts.append(logits.to("cpu", torch.float32, copy=True))
        return logits

    in_parts = agent.with_stepper(agent.stepper)
    pair = (
        agent.with_reader(replace(agent.reader, decision=at_once)),
        agent.with_reader(replace(in_parts.reader, action_head=head)),
    )
    tasks, rng = made_up_lanes(agent, window), np.random.default_rng([seed, 2])
    states = [one.start(max(tasks) + 1) for one in pair]
    begun = [(lane, Episode(task, seed)) for lane, task in tasks.items()]
    gap = scale = 0.0
    compared = 0
    for number in range(DECISIONS):
        for one, state in zip(pair, states, strict=True):
            one.reset(state, [lane for lane, _ in begun], [episode for _, episode in begun])
        ready = [lane for lane in tasks if number < 2 or rng.random() < 0.7] or list(tasks)
        seen = [made_up_observation(tasks[lane], rng) for lane in ready]
        rewards = [float(reward) for reward in rng.normal(size=len(ready))]
        whole.clear()
        parts.clear()
        actions, _ = pair[0].act(states[0], seen, rewards, ready)
        pair[1].act(states[1], seen, rewards, ready)
        pair[1].took(states[1], ready, actions)
        blocks = sorted({lane // agent.rows for lane in ready})
        if len(whole) != len(blocks) or len(parts) != len(blocks):
            raise AgentError(f"{len(whole)} and {len(parts)} passes were read for {len(blocks)} blocks")
        for block, ours, theirs in zip(blocks, whole, parts, strict=True):
            if ours is None:
                continue  # this pass was read in parts, too
            rows = [lane % agent.rows for lane in ready if lane // agent.rows == block]
            gap = max(gap, float((ours[rows] - theirs[rows]).abs().max()))
            scale = max(scale, float(theirs[rows].abs().max()))
            compared += 1
        begun = [(lane, Episode(tasks[lane], seed + 1)) for lane in list(tasks)[:1]] if number == 2 else []
    allowed, why = allowance(next(agent.model.parameters()).dtype, 0.0)
    difference = gap / scale if scale else 0.0
    status: Status = "passed" if compared and difference <= allowed else "failed"
    measured = f"differ by {difference:.1e} of the scale" if compared else "no decision was recorded"
    subject = f"{DECISIONS} decisions"
    return [Check(RECORDED, subject, status, measured, f"{allowed:g}", why, difference, allowed)]

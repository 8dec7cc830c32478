"""Step/forward equivalence: does a model act, pass by pass, as it was trained to read, sequence by sequence?

A model has two forms: ``forward`` over whole sequences, which is trained, and the step, which acts.
Where they part, an evaluation measures a network that nobody trained. ``lram eval`` makes the checks of
``QUICK`` on every model before it plays; ``lram check`` continues for longer. Tokens are the model's own
embeddings of random observations, rewards and returns-to-go. States are made anew, and nothing is drawn
from a global generator, so an evaluation is the same with the checks and without.

What is allowed, as a part of the largest number that ``forward`` gives:

* float32 weights: 2e-5. Measured (presets of 1M, 16M and 48M, as drawn and with noise on every weight,
  150 tokens, and 1,200 up to 16M; one thread of an AVX-512 core): plain steps 6e-7 at most, fused ones
  1.3e-6. A state that is rounded to bfloat16 after each pass gives 1e-4 to 3e-3.
* A model that makes more of rounding is allowed more: ten times what a relative noise of 1e-6 in its
  inputs does to ``forward``, 5e-2 at most. Measured, with noise of up to ten times the weights: the forms
  differ by 0.6 times that noise's effect at most, once by ten times. The presets, as drawn, are allowed
  2e-5 to 3e-5.
* bfloat16 weights: 5e-2. Measured likewise, over 150 tokens: 1.9e-2 at most.
* Whatever that gives, a third of what rewards of 0 would do to the outputs, where that can be told from
  rounding; and the embedded rewards and returns-to-go that an agent hands to its step are compared with
  those of training themselves, which are the same bit for bit in both types (measured on the presets).
"""

from __future__ import annotations

import torch

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.checks.contract import Check, guarded
from lram.agents.checks.recorded import DECISIONS, RECORDED, recorded_decisions
from lram.agents.checks.step import (
    BEYOND,
    FORWARD,
    FRESH,
    HOLES,
    KEPT,
    MASKED,
    PLACE,
    REWARD,
    SOUND,
    Extent,
    StepChecks,
)
from lram.agents.checks.stream import STREAM, acting_follows_training, no_decision_sees_its_reward

NAME = "parity@4"
"""The set of checks; the number goes up when they or what they allow change."""

COMPARED = (FORWARD, HOLES, STREAM)
"""The checks that compare what the step gives with what ``forward`` gives."""

QUICK = Extent(lengths=(450,), decisions=50)
"""Three times the context that the reference's models are trained on: a step's faults may show late."""


def thorough(tokens: int = 450, long: bool = False) -> Extent:
    """Return three times the trained context, with ``long`` eight times, and 1,000 decisions.

    Windows of up to 2,000 tokens, or ``tokens``, are left behind.
    """
    lengths = (150, tokens, *([1200] if long else []))
    return Extent(lengths, decisions=1000, window=max(BEYOND, tokens))


def model_checks(agent: ModelAgent, extent: Extent = QUICK, seed: int = 0) -> list[Check]:
    """Check that ``agent`` acts as its model was trained; nothing is raised.

    Rows that must be equal bit for bit are allowed what rounding is with several threads, and on other
    devices than the processor, where the libraries promise no more.
    """
    step = StepChecks(agent, extent, seed)
    checks: list[Check] = []
    with torch.inference_mode():
        for name, check in (
            (FORWARD, step.pass_sizes),
            (FORWARD, step.lengths),
            (FORWARD, step.beyond_window),
            (FRESH, step.reset),
            (MASKED, step.masked),
            (HOLES, step.holes),
            (PLACE, step.places),
            (KEPT, step.own_state),
            (SOUND, step.sound),
            (REWARD, step.reward),
        ):
            checks += guarded(name, f"passes of {step.size}", check)
        checks += no_decision_sees_its_reward(agent.model, step.window, seed)
        checks += acting_follows_training(agent, step.window, seed)
        checks += guarded(
            RECORDED, f"{DECISIONS} decisions", lambda: recorded_decisions(agent, step.window, seed)
        )
    return checks

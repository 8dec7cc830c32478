"""What the equivalence checks share: seeded streams, a model's two forms reading them, what is allowed.

See :mod:`lram.agents.checks.equivalence`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property

import torch
from torch import Tensor

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.backbones.states import State
from lram.agents.model.encoders import IMAGE_SHAPE
from lram.agents.model.tokens import ACTION_DIMS, CLASSES

FLOAT32, BFLOAT16 = 2e-5, 5e-2
"""What is allowed, by the type of the weights, as a part of the largest output."""

NOISE, AMPLIFIED, MOST = 1e-6, 10, 5e-2
"""A float32 model is allowed more where it makes more of rounding: so many times what relative noise of
this size in its inputs does to its outputs, up to a limit."""


def allowance(weights: torch.dtype, sensitivity: float) -> tuple[float, str]:
    """Return what part of the scale is allowed, and why.

    Args:
        weights: Their type.
        sensitivity: What noise of ``NOISE`` in the inputs does to the outputs, as a part of the scale.
    """
    if weights != torch.float32:
        return BFLOAT16, f"rounding of {str(weights).removeprefix('torch.')} weights"
    if AMPLIFIED * sensitivity > FLOAT32:
        changed = f"relative noise of {NOISE:g} in its inputs changes the outputs by {sensitivity:.1e}"
        why = f"{AMPLIFIED} times this model's own sensitivity: {changed}"
        return min(AMPLIFIED * sensitivity, MOST), why
    return FLOAT32, "rounding of float32 weights"


class TwoForms:
    """A model's two forms, and streams of its own embeddings to read by them.

    Attributes:
        rows: Rows of a pass.
        size: Tokens of a row in the pass of a decision.
        type: Of the weights.
        window: Tokens after which the forms differ by design, because older ones are lost; None: never.
        kept: Tokens that a cache keeps, where the forms agree beyond them too; None: no such cache.
        compiled: Whether the step is made for the passes of a decision only.
    """

    def __init__(self, agent: ModelAgent, seed: int) -> None:
        self.model, self.backbone, self.stepper = agent.model, agent.model.backbone, agent.stepper
        self.rows, self.size, self.seed = agent.rows, agent.model.config.pass_tokens, seed
        self.type, self.device = next(self.backbone.parameters()).dtype, self.backbone.device
        self.compiled = self.stepper.form in ("compile", "graphs")
        past = self.model.config.past
        self.window = past.tokens if past.anew else None
        self.kept = past.tokens if past.cache and not past.anew else None
        if past.anew and not self.compiled:
            self.rows = min(self.rows, 2)  # each pass costs as much as its whole window

    def read(
        self, x: Tensor, size: int, state: State | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Read x (rows, tokens, width) by the agent's step, ``size`` tokens a pass; float32 outputs."""
        state = self.backbone.initial_state(len(x)) if state is None else state
        outputs = []
        for first in range(0, x.shape[1], size):
            here = slice(first, first + size)
            mask = None if valid is None else valid[:, here].contiguous()
            y, state = self.stepper.call(x[:, here].contiguous(), state, mask)
            outputs.append(y.to(torch.float32, copy=True))
        return torch.cat(outputs, dim=1), state

    def forward(self, x: Tensor) -> Tensor:
        """Read x (rows, tokens, width) at once; float32 outputs."""
        with _without_tf32(self.device):
            y: Tensor = self.backbone(x).float()
        return y

    def tokens(self, rows: int, decisions: int, stream: int) -> Tensor:
        """Draw a stream for each row: (rows, decisions x tokens of a pass, width)."""
        generator = self.generator(stream)
        count = rows * decisions
        seen = torch.randint(len(self._observations), (count,), generator=generator)
        returns_to_go, rewards = torch.randn(2, count, generator=generator).to(self.device)
        x = self.embed(rewards, returns_to_go, self._observations[seen.to(self.device)], generator)
        return x.reshape(rows, decisions * self.size, -1)

    def embed(
        self,
        rewards: Tensor,
        returns_to_go: Tensor | None = None,
        observations: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Embed decisions of these rewards (n,), all else being one and the same where it is not given."""
        count = len(rewards)
        returns_to_go = torch.ones_like(rewards) if returns_to_go is None else returns_to_go
        observations = self._observations[:1].expand(count, -1) if observations is None else observations
        classes = None
        if self.model.config.actions_in_context:
            classes = torch.randint(CLASSES, (count, ACTION_DIMS), generator=generator or self.generator(7))
            classes = classes.to(self.device)
        return self.model.decision_tokens(observations, returns_to_go, rewards, classes).to(self.type)

    @cached_property
    def _observations(self) -> Tensor:
        """Encoded vectors and images to draw from: (32, width)."""
        generator, encode = self.generator(8), self.model.encoders.observation
        vectors = torch.randn(24, self.model.config.state_width, generator=generator)
        images = torch.randint(256, (8, *IMAGE_SHAPE), dtype=torch.uint8, generator=generator)
        return torch.cat([encode(vectors.to(self.device)), encode(images.to(self.device))])

    def generator(self, stream: int) -> torch.Generator:
        """Return a generator of its own for each stream."""
        return torch.Generator().manual_seed(1000 * self.seed + stream)

    def whole(self, tokens: int) -> int:
        """Round down to whole decisions, one at least."""
        return max(1, tokens // self.size) * self.size

    def allowed(self, x: Tensor, reference: Tensor) -> tuple[float, str]:
        """Return what is allowed on this stream, which ``forward`` reads as ``reference``, and why."""
        if self.type != torch.float32:
            return allowance(self.type, 0.0)
        noise = torch.randn(x.shape, generator=self.generator(9)).to(self.device)
        gap = (self.forward(x * (1 + NOISE * noise)) - reference).abs().max()
        return allowance(self.type, float(gap / reference.abs().max()))


def _without_tf32(device: torch.device) -> AbstractContextManager[None]:
    """Keep cuDNN, whose convolutions round to 10 bits by default, as exact as the step is."""
    if device.type != "cuda":
        return nullcontext()
    cudnn = torch.backends.cudnn
    exact: Callable[..., AbstractContextManager[None]] = cudnn.flags
    return exact(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    )

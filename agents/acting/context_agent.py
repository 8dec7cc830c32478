"""An action model that sees a limited context: its backbone is put into one that forgets.

:mod:`lram.agents.acting.contexts` tells what the contexts are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from lram.agents.acting.contexts import Context
from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import Agent, AgentError
from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.layers import order_of, places
from lram.agents.backbones.states import State, tensors
from lram.agents.backbones.stepping import StepFunction, Stepper
from lram.agents.checkpoints.known_tasks import KnownTasks
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import ActionModel
from lram.agents.transfer import row_numbers


class ContextAgent(ModelAgent):
    """``inner`` with a limited context; weights are shared, and everything else is as it has it.

    Args:
        inner: The action model whose state is carried.
        context: ``window`` or ``reset``.

    Attributes:
        inner: The same; what checks of step and forward are about.
    """

    def __init__(self, inner: ModelAgent, context: Context) -> None:
        self.inner, self.context = inner, context
        config, backbone, read = inner.model.config, inner.model.backbone, inner.stepper
        forgetful: Backbone
        limit = ""
        if context.mode == "window":
            forgetful = window = WindowBackbone(backbone, config, context.timesteps)
            if window.most and window.most < context.timesteps * window.pass_tokens - window.past:
                limit = f", of which the model reads no more than its own window of {window.most} tokens"
            detail = f"forward over each lane's window, PyTorch {torch.__version__}"
        else:
            forgetful = ResetBackbone(backbone, config, context.timesteps, read.call)
            detail = read.detail
        base = inner.info
        super().__init__(
            inner.model.with_backbone(forgetful),
            trained=bool(base.trained),
            description=f"{base.description}; {context.describe()}{limit}",
            digest=hashlib.sha256(f"{base.digest}{context.suffix}".encode()).hexdigest(),
            target_returns=inner.target_returns,
            known=KnownTasks(base.training_tasks, base.training_tasks_complete),
            # The head and what encodes images stay as they are, packed or not.
            reader=inner.reader.with_stepper(Stepper(read.form, detail, forgetful.step)),
            details=(("context", f"{context.describe()}{limit}"),),
        )

    def with_rows(self, rows: int) -> Self:
        """Return this agent, with the same context, with passes of ``rows`` rows."""
        return type(self)(self.inner.with_rows(rows), self.context)

    def with_model(self, model: ActionModel) -> Self:
        """Return this agent, with the same context, acting by ``model``."""
        return type(self)(self.inner.with_model(model), self.context)

    def __reduce__(self) -> tuple[Any, ...]:
        # What limits the context is made again, around the copy of the inner agent.
        return type(self), (self.inner, self.context)


def with_context(agent: Agent, context: Context, spec: str) -> Agent:
    """Return ``agent`` so that it sees ``context`` of an episode; ``agent`` itself where that is all of it.

    Args:
        agent: An action model.
        context: What it is to see.
        spec: What the user wrote, for the error.

    Raises:
        AgentError: It is no action model.
    """
    if context.mode == "carry":
        return agent
    # A subclass may act in ways that a limited context would undo.
    if type(agent) is not ModelAgent:
        raise AgentError(
            f"{spec}: a context goes with action models, whose state it limits, and "
            f"{agent.info.description!r} is none; noise comes after it, as in small-mamba@window=50~0.1"
        )
    return ContextAgent(agent, context)


class ForgetfulBackbone(Backbone):
    """A backbone whose ``step`` reads the passes of decisions and forgets some of the past.

    Its ``forward`` is the whole backbone's, which forgets nothing: the two agree as long as nothing was
    forgotten.

    Args:
        backbone: What reads.
        config: Of the model: it tells which tokens of a pass tell of the timestep before.
        timesteps: Decisions of a context.
    """

    def __init__(self, backbone: Backbone, config: ModelConfig, timesteps: int) -> None:
        super().__init__()
        self.whole = backbone
        self.timesteps = timesteps
        self.past = config.pass_tokens - config.fresh_tokens
        self.pass_tokens, self.width = config.pass_tokens, config.width

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`Backbone`."""
        y: Tensor = self.whole(x)
        return y

    def reset_parameters(self) -> None:
        """See :class:`Backbone`."""
        self.whole.reset_parameters()

    def _passes(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Return which tokens of the pass are there; AgentError where it is no decision's."""
        if x.shape[1] != self.pass_tokens:
            raise AgentError(
                f"a limited context is counted in decisions of {self.pass_tokens} tokens, not of {x.shape[1]}"
            )
        if valid is None:
            return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        return valid.clone()


class ResetBackbone(ForgetfulBackbone):
    """The state is fresh at every ``timesteps``-th decision.

    Args:
        backbone, config, timesteps: See :class:`ForgetfulBackbone`.
        read: The backbone's step.
    """

    def __init__(self, backbone: Backbone, config: ModelConfig, timesteps: int, read: StepFunction) -> None:
        super().__init__(backbone, config, timesteps)
        self._read = read

    def initial_state(self, rows: int) -> State:
        """Decisions since the last reset (rows,), and the backbone's own state."""
        count = torch.zeros(rows, dtype=torch.int64, device=self.device)
        return {"count": count, "state": self.whole.initial_state(rows)}

    def reset(self, state: State, rows: Sequence[int]) -> None:
        """See :class:`Backbone`."""
        state["count"].index_fill_(0, row_numbers(rows, self.device), 0)
        self.whole.reset(state["state"], rows)

    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Read one decision of every row that has one."""
        valid = self._passes(x, valid)
        ready = valid.any(dim=1)
        late = ready & (state["count"] == self.timesteps)
        if x.device.type != "cpu":
            return self._step_unasked(x, state, valid, late)
        due = late.nonzero().flatten().tolist()
        if due:
            self.reset(state, due)
            valid[due, : self.past] = False
        # As agents do: a pass that all rows have whole goes without a mask.
        y, inner = self._read(x, state["state"], None if bool(valid.all()) else valid)
        return y, {"count": state["count"] + ready, "state": inner}

    def _step_unasked(self, x: Tensor, state: State, valid: Tensor, late: Tensor) -> tuple[Tensor, State]:
        """Do the same without knowing on the host which rows are ``late``, so that nobody has to wait.

        Every number of the state is read and written for that. What the host itself keeps of it, a bound of
        what a cache holds, stays as it is: a bound still.
        """
        ready, count = valid.any(dim=1), state["count"]
        first = self.whole.initial_state(1)
        for kept, begin in zip(tensors(state["state"]), tensors(first), strict=True):
            if kept.device == x.device:
                # What has grown since it was fresh, a cache, is filled up with zeros.
                fresh = begin if begin.shape[1:] == kept.shape[1:] else torch.zeros_like(kept[:1])
                kept.copy_(torch.where(late.view(-1, *[1] * (kept.dim() - 1)), fresh, kept))
        valid[:, : self.past] &= ~late.unsqueeze(1)
        y, inner = self._read(x, state["state"], valid)
        return y, {"count": count.masked_fill(late, 0) + ready, "state": inner}


class WindowBackbone(ForgetfulBackbone):
    """The embedded tokens of the last ``timesteps`` decisions, read anew at each decision.

    Each row is read alone, in exactly its own length, so that its bits do not depend on other rows.
    """

    def __init__(self, backbone: Backbone, config: ModelConfig, timesteps: int) -> None:
        super().__init__(backbone, config, timesteps)
        # The step of a model that reads its window anew sees no more, but its forward all that it is given.
        self.most = config.past.tokens if config.past.anew else None
        self.longest = config.past.longest_forward

    def initial_state(self, rows: int) -> State:
        """``tokens`` (rows, timesteps x tokens of a pass, width), newest last, and which are there."""
        size = self.timesteps * self.pass_tokens
        try:
            return {
                "tokens": torch.zeros(rows, size, self.width, dtype=torch.float32, device=self.device),
                "there": torch.zeros(rows, size, dtype=torch.bool, device=self.device),
            }
        except RuntimeError as error:
            raise AgentError(
                f"the memory here cannot hold {rows} contexts of {self.timesteps} timesteps; give a shorter "
                "one"
            ) from error

    def reset(self, state: State, rows: Sequence[int]) -> None:
        """See :class:`Backbone`."""
        numbers = row_numbers(rows, self.device)
        for tensor in tensors(state):
            tensor.index_fill_(0, numbers, 0)

    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Read one decision of every row that has one; what it returns for other tokens is zero."""
        valid = self._passes(x, valid)
        held = state["tokens"].shape[1]
        size = min(held, self.most) if self.most else held
        if x.device.type != "cpu" and (self.longest is None or size <= self.longest):
            return self._step_together(x, state, valid, size)
        y = torch.zeros_like(x)
        for row in valid.any(dim=1).nonzero().flatten().tolist():
            tokens, there = state["tokens"][row], state["there"][row]
            _push(tokens, x[row])
            _push(there, valid[row])
            there[: self.past] = False  # what tells of the timestep before the window
            new = there[-self.pass_tokens :]
            window = tokens[there][-self.most :] if self.most else tokens[there]
            read = self.whole(window.to(x.dtype).unsqueeze(0))[0]
            y[row, new] = read[len(read) - int(new.sum()) :]
        return y, state

    def _step_together(self, x: Tensor, state: State, valid: Tensor, size: int) -> tuple[Tensor, State]:
        """Do the same for all rows in one pass of ``size`` tokens each, whatever they have.

        Nobody has to know on the host which they have. What a row lacks stands behind its last token, where
        no token looks; so a row's bits do not depend on other rows here either.
        """
        new, ready = self.pass_tokens, valid.any(dim=1, keepdim=True)
        tokens = torch.cat([state["tokens"][:, new:], x.to(state["tokens"].dtype)], dim=1)
        there = torch.cat([state["there"][:, new:], valid], dim=1)
        there[:, : self.past] = False  # what tells of the timestep before the window
        tokens = torch.where(ready.unsqueeze(-1), tokens, state["tokens"])
        there = torch.where(ready, there, state["there"])
        ranks = places(there)
        dropped = (there.sum(dim=1, keepdim=True) - size).clamp(min=0)  # the oldest, where they are too many
        first = order_of(ranks).gather(1, torch.arange(size, device=x.device) + dropped)
        window = tokens.gather(1, first.unsqueeze(-1).expand(-1, -1, self.width))
        read = self.whole(window.to(x.dtype))
        place = (ranks[:, -new:] - dropped).clamp(0, size - 1).unsqueeze(-1)
        y = read.gather(1, place.expand(-1, -1, self.width))
        y = y.masked_fill(~(there[:, -new:] & ready).unsqueeze(-1), 0)
        return y, {"tokens": tokens, "there": there}


def _push(memory: Tensor, new: Tensor) -> None:
    """Shift ``memory`` (n, ...) by what ``new`` (k, ...) has, which goes to its end."""
    kept = memory[len(new) :].clone()
    memory[: len(kept)] = kept
    memory[len(kept) :] = new.to(memory.dtype)

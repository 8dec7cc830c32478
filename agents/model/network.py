"""The action model: encoders -> tokens -> backbone -> one action head for all tasks.

``forward`` reads whole trajectories, for training. To act, one pass a decision: ``decision_tokens``
embeds what came since the last decision, ``backbone.step`` reads it, ``action_logits`` reads the last
token. Order of tokens and meaning of classes: :mod:`lram.agents.model.tokens`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lram.agents.api import AgentError
from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.linear import Linear, linear
from lram.agents.backbones.registry import build_backbone
from lram.agents.model.config import ModelConfig
from lram.agents.model.encoders import Encoders, reset_encoders
from lram.agents.model.tokens import ACTION_DIMS, CLASSES
from lram.agents.seed import check_seed


class Prediction(NamedTuple):
    """What ``forward`` returns.

    Attributes:
        logits: (B, T, dims, 274), of all 8 dimensions by default; a discrete action is read from the first.
        hidden: (B, T x tokens of a timestep, width), after the backbone's last norm.
    """

    logits: Tensor
    hidden: Tensor


class ActionModel(nn.Module):
    """See the module's text. Weights are PyTorch's defaults until they are loaded or drawn.

    Args:
        config: What the model is.
        encoders, backbone, head: Parts to take as they are; None: a new one, as ``config`` says.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        encoders: Encoders | None = None,
        backbone: Backbone | None = None,
        head: Linear | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.encoders = Encoders(config) if encoders is None else encoders
        self.backbone = build_backbone(config) if backbone is None else backbone
        self.head = Linear(config.width, ACTION_DIMS * CLASSES) if head is None else head

    def with_backbone(self, backbone: Backbone) -> ActionModel:
        """Return a model of the same encoders and head, sharing their weights, that has ``backbone``."""
        return ActionModel(self.config, encoders=self.encoders, backbone=backbone, head=self.head)

    def forward(
        self,
        observations: Tensor,
        returns_to_go: Tensor,
        rewards: Tensor,
        actions: Tensor | None = None,
        dims: int = ACTION_DIMS,
    ) -> Prediction:
        """Predict every action of B trajectories of T timesteps, all of one kind of task.

        Args:
            observations: (B, T, state_width), filled up with zeros, or images (B, T, 3, 64, 64).
            returns_to_go: (B, T), divided by the task's reward scale; not read where not in context.
            rewards: (B, T), what each action earned, divided likewise; not read where not in context.
            actions: Classes (B, T, 8), or (B, T, 1) for discrete actions; with actions in context only.
            dims: Predict only the first so many dimensions of an action; 1 for discrete actions.
        """
        encode = self.encoders
        step = [
            encode.observation(observations),
            *self._encode_scalar(encode.return_to_go, returns_to_go),
            *self._encode_actions(actions),
            *self._encode_scalar(encode.reward, rewards),
        ]
        x = encode.norm(torch.stack(step, dim=2))  # (B, T, tokens of a timestep, D)
        hidden = self.backbone(x.flatten(1, 2))
        logits = self.action_logits(hidden.view(x.shape)[:, :, self.config.decided_at], dims)
        return Prediction(logits, hidden)

    def decision_tokens(
        self, states: Tensor, returns_to_go: Tensor, rewards: Tensor, actions: Tensor | None = None
    ) -> Tensor:
        """Embed one pass: (actions t-1), (reward t-1), state t, (return-to-go t).

        Args:
            states: Encoded observations (rows, width), as ``encoders.observation`` gives them.
            returns_to_go: (rows,), scaled; not read where not in context.
            rewards: (rows,), scaled; not read where not in context.
            actions: Classes (rows, 8), with actions in context.

        Returns:
            (rows, pass_tokens, width); what a row does not have is to be masked in ``step``.
        """
        encode = self.encoders
        tokens = [
            *self._encode_actions(actions),
            *self._encode_scalar(encode.reward, rewards),
            states,
            *self._encode_scalar(encode.return_to_go, returns_to_go),
        ]
        x: Tensor = encode.norm(torch.stack(tokens, dim=1))
        return x

    def action_logits(self, hidden: Tensor, dims: int = ACTION_DIMS) -> Tensor:
        """Read actions from the tokens that they are read at: (..., width) -> (..., dims, 274)."""
        if dims == ACTION_DIMS:
            logits: Tensor = self.head(hidden)
        else:
            logits = linear(hidden, self.head.weight[: dims * CLASSES], self.head.bias[: dims * CLASSES])
        return logits.view(*hidden.shape[:-1], dims, CLASSES)

    def _encode_scalar(self, linear: nn.Linear | None, values: Tensor) -> tuple[Tensor, ...]:
        return () if linear is None else (self.encoders.scalar(linear, values),)

    def _encode_actions(self, actions: Tensor | None) -> tuple[Tensor, ...]:
        if (actions is None) != (self.encoders.action is None):
            raise AgentError("past actions are given to a model exactly when it has actions in context")
        if actions is None or self.encoders.action is None:
            return ()
        return tuple(self.encoders.action(actions).unbind(dim=-2))

    @property
    def parameter_count(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.parameters())


def build_model(config: ModelConfig, seed: int) -> ActionModel:
    """Return an untrained model, its weights drawn from ``seed``; torch's own generator is left as it was.

    Raises:
        AgentError: This machine's memory cannot hold it, or the seed is none.
    """
    check_seed(seed)
    with without_memory(), float32_by_default():
        check_memory(ActionModel(config), f"a model of {config.layers} blocks of width {config.width}")
    with torch.random.fork_rng(devices=[]), float32_by_default():
        # torch.manual_seed would seed the GPUs' generators too, which fork_rng then does not restore.
        torch.default_generator.manual_seed(seed)
        model = ActionModel(config)
        reset_encoders(model.encoders, config.spec.encoders)
        model.backbone.reset_parameters()
        nn.init.normal_(model.head.weight, std=0.02)
        nn.init.zeros_(model.head.bias)
    return model.eval()


def check_memory(model: ActionModel, name: str) -> None:
    """Raise AgentError where ``model`` (also one on ``meta``) has more weights than the memory here holds."""
    needed = 4 * model.parameter_count
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > here:
        raise AgentError(
            f"{name} needs {needed / 2**30:,.0f} GiB for its weights, and this machine has "
            f"{here / 2**30:,.0f} GiB of memory; take a smaller model"
        )


class _Undrawn(TorchFunctionMode):
    """Leaves normal weights undrawn: on ``meta`` that would load PyTorch's compiler, for two seconds."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is nn.init.normal_ or func is Tensor.normal_:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextmanager
def without_memory() -> Iterator[None]:
    """Make new modules on the device ``meta``, which has their shapes and no numbers."""
    with torch.device("meta"), _Undrawn():
        yield


@contextmanager
def float32_by_default() -> Iterator[None]:
    """Make new tensors float32, whatever the user's code has set."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def action_loss(logits: Tensor, classes: Tensor, mask: Tensor) -> Tensor:
    """Return the mean cross-entropy over all (timestep, dimension) pairs that ``mask`` keeps.

    All 274 classes compete, also those that the task at hand does not have, as in the reference.

    Args:
        logits: (B, T, dims, 274), with all dimensions that ``mask`` keeps.
        classes: (B, T, A) with A = 8, or 1 for discrete actions.
        mask: (B, T, A) bool; at least one must be true.
    """
    dims = min(logits.shape[2], classes.shape[2])
    logits, classes, mask = logits[:, :, :dims], classes[:, :, :dims], mask[:, :, :dims]
    losses = F.cross_entropy(logits.flatten(0, -2).float(), classes.flatten(), reduction="none")
    kept = mask.flatten().to(losses.dtype)
    return (losses * kept).sum() / kept.sum()

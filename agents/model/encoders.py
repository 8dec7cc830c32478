"""Encoders: what turns observations, rewards and returns-to-go into tokens of one width.

The image encoder is the IMPALA network (Espeholt et al. 2018, arXiv 1802.01561) with 16, 32 and 32
channels; everything else is one Linear. All tokens go through one LayerNorm. Sizes: the LRAM
reference implementation.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.api import TaskSpec
from lram.agents.backbones.linear import Linear
from lram.agents.backbones.spec import EncoderWeights
from lram.agents.model.config import ModelConfig
from lram.agents.model.tokens import ACTION_DIMS, CLASSES, DISCRETE_ACTIONS

IMAGE_SHAPE = (3, 64, 64)
CHANNELS = (16, 32, 32)

IMAGES_AT_ONCE = 32
"""Images that go through the network together on a processor. Larger parts need tensors that the C library
gives back to the system and asks for again at each step: 2.4 instead of 1.5 ms an image at 512."""


def fits_model(task: TaskSpec, state_width: int) -> bool:
    """Return whether a model with vectors of ``state_width`` can read the task's observations and actions."""
    if task.observation == "image":
        fits = task.observation_shape == IMAGE_SHAPE
    else:
        fits = math.prod(task.observation_shape) <= state_width
    return fits and task.action_size <= (DISCRETE_ACTIONS if task.action == "discrete" else ACTION_DIMS)


class Encoders(nn.Module):
    """One encoder a kind of token; each returns (..., width), before the LayerNorm ``norm``.

    Kinds that are not in context have none.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.state = Linear(config.state_width, config.width)
        self.image = ImageEncoder(config.width)
        self.return_to_go = nn.Linear(1, config.width) if config.returns_in_context else None
        self.reward = nn.Linear(1, config.width) if config.rewards_in_context else None
        # One row more than there are classes: the reference keeps a padding row at the end.
        self.action = nn.Embedding(CLASSES + 1, config.width) if config.actions_in_context else None
        self.norm = nn.LayerNorm(config.width)

    def observation(self, observations: Tensor) -> Tensor:
        """Encode images (..., 3, 64, 64), or vectors (..., state_width) filled up with zeros."""
        # (3, 64, 64) alone is three windows of 64 vectors of width 64.
        if observations.ndim > 3 and observations.shape[-3:] == IMAGE_SHAPE:
            images: Tensor = self.image(observations.flatten(0, -4))
            return images.view(*observations.shape[:-3], -1)
        vectors: Tensor = self.state(observations.to(self.state.weight.dtype))
        return vectors

    def scalar(self, linear: nn.Linear, values: Tensor) -> Tensor:
        """Encode scaled rewards or returns-to-go (...) by ``reward`` or ``return_to_go``."""
        encoded: Tensor = linear(values.unsqueeze(-1).to(linear.weight.dtype))
        return encoded


class ImageEncoder(nn.Module):
    """Three blocks, each of which halves the image, then one Linear."""

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = (IMAGE_SHAPE[0], *CHANNELS)
        self.cnn = nn.ModuleList(ImageBlock(before, after) for before, after in pairwise(channels))
        side = IMAGE_SHAPE[1] // 2 ** len(CHANNELS)
        self.linear = Linear(CHANNELS[-1] * side * side, width)

    def forward(self, images: Tensor) -> Tensor:
        """(rows, 3, 64, 64), 0 to 255 -> (rows, width)."""
        if images.device.type != "cpu" or len(images) <= IMAGES_AT_ONCE:
            return self._encode(images)
        parts = images.split(IMAGES_AT_ONCE)  # type: ignore[no-untyped-call]
        return torch.cat([self._encode(part) for part in parts])

    def _encode(self, images: Tensor) -> Tensor:
        x = images.to(self.linear.weight.dtype) / 255.0
        # The order in memory that convolutions are fastest in: 1.5 to 3 times on a processor.
        x = x.contiguous(memory_format=torch.channels_last)
        for block in self.cnn:
            x = block(x)
        return F.relu(self.linear(F.relu(x).flatten(1)))


class ImageBlock(nn.Module):
    """Convolution, pooling, two residual parts."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=1)
        self.residual_0 = Residual(after)
        self.residual_1 = Residual(after)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, before, side, side) -> (rows, after, side / 2, side / 2)."""
        x = F.max_pool2d(self.conv(x), kernel_size=3, stride=2, padding=1)
        y: Tensor = self.residual_1(self.residual_0(x))
        return y


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_0 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, channels, side, side) -> the same."""
        y: Tensor = x + self.conv_1(F.relu(self.conv_0(F.relu(x)), inplace=True))
        return y


def reset_encoders(encoders: Encoders, begin: EncoderWeights) -> None:
    """Draw initial weights from torch's global generator, as the kind of backbone has them.

    Convolutions keep PyTorch's own rule for every kind. Where biases of the tokens are drawn (not the
    image's), the LayerNorm does not hide the size of a reward.
    """
    small = [linear for linear in (encoders.return_to_go, encoders.reward) if linear is not None]
    large = [encoders.state, encoders.image.linear]
    for linear in small + (large if begin.normal_inputs else []):
        nn.init.normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
    if encoders.action is not None:
        nn.init.normal_(encoders.action.weight, std=0.02)
    if begin.zero_inputs:
        for linear in large:
            nn.init.zeros_(linear.bias)
    if begin.drawn_biases:
        drawn: list[torch.nn.Parameter] = [linear.bias for linear in (*small, encoders.state)]
        for bias in (*drawn, encoders.norm.bias):
            nn.init.normal_(bias, std=0.02)

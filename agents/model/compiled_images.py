"""The fused image encoder: convolutions on packed weights, activations and residuals inside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lram.agents.backbones.kernels.linear import PackedLinear
from lram.agents.backbones.linear import available
from lram.agents.model.encoders import IMAGE_SHAPE, ImageBlock, ImageEncoder


class FusedImageEncoder:
    """Called like :class:`lram.agents.model.encoders.ImageEncoder`; for its weights as they are now."""

    def __init__(self, encoder: ImageEncoder, images: int) -> None:
        self.blocks, side = [], IMAGE_SHAPE[1]
        for block in cast("Sequence[ImageBlock]", encoder.cnn):
            first = PackedConv(block.conv, images, side)
            side //= 2
            residuals = [
                (PackedConv(part.conv_0, images, side, "relu"), PackedConv(part.conv_1, images, side))
                for part in (block.residual_0, block.residual_1)
            ]
            self.blocks.append((first, residuals))
        self.linear = PackedLinear.of(encoder.linear, images)

    def __call__(self, images: Tensor) -> Tensor:
        """(rows, 3, 64, 64), 0 to 255 -> (rows, width)."""
        x = (images.to(torch.float32) / 255.0).contiguous(memory_format=torch.channels_last)
        for first, residuals in self.blocks:
            x = F.max_pool2d(first(x), kernel_size=3, stride=2, padding=1)
            for inner, outer in residuals:
                x = outer.add_to(x, inner(F.relu(x)))
        return F.relu(self.linear(F.relu(x).flatten(1)))


class PackedConv:
    """A 3 x 3 ``nn.Conv2d`` that keeps the image's size, for inference on channels-last images.

    Args:
        conv: Kernel 3, padding 1, stride 1.
        images: About how many images there will be at once.
        side: Their height and width.
        activation: ``none`` or ``relu``, applied to the result.
    """

    def __init__(self, conv: nn.Conv2d, images: int, side: int, activation: str = "none") -> None:
        assert conv.bias is not None
        self.weight, self.bias = conv.weight.detach(), conv.bias.detach().clone()
        self.activation = activation
        self.packed = available("_convolution_pointwise")
        if self.packed:
            shape = (images, conv.in_channels, side, side)
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *_GEOMETRY, shape)
        else:
            self.weight = self.weight.clone()

    def __call__(self, x: Tensor) -> Tensor:
        """(images, in, side, side) -> (images, out, side, side)."""
        if self.packed:
            packed: Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, self.weight, self.bias, *_GEOMETRY, self.activation, [], ""
            )
            return packed
        y = F.conv2d(x, self.weight, self.bias, padding=1)
        return F.relu(y) if self.activation == "relu" else y

    def add_to(self, base: Tensor, x: Tensor) -> Tensor:
        """Return ``base`` (images, out, side, side) plus the convolution of ``x``."""
        if self.packed:
            summed: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
                x, base, self.weight, self.bias, *_GEOMETRY, "add", 1.0, None, [], None
            )
            return summed
        return base + F.conv2d(x, self.weight, self.bias, padding=1)


_GEOMETRY = ((1, 1), (1, 1), (1, 1), 1)  # padding, stride, dilation, groups

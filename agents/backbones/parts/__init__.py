"""Parts that modern recurrent blocks are made of, each with a plain form and a compiled one.

A backbone that is written with them, as a :class:`MixerStack` of :class:`Mixer`, has kernels for whole
sequences in training, and a compiled step by ``fused=COMPILED_PARTS`` in its specification, without any of
its own:

* :class:`Linear`, and torch's, on packed weights
* :class:`ShortConvolution`: a causal convolution of each channel, with or without SiLU
* :class:`PreviousToken`: the token before, for models that mix it in
* :class:`MatrixMemory`: a matrix a head, with decay and a correction of what it holds (linear attention,
  state spaces, delta rules)
* :class:`VectorMemory`: a number a channel, with a decay (gated linear recurrences)
* :class:`HeadwiseLinear`: a block-diagonal projection
* :class:`LocalAttention`: causal attention over the last tokens, for hybrids
* :class:`RMSNorm`, :class:`GatedRMSNorm`, :class:`GatedFeedForward`

The forms are the same up to rounding and share their states, which are float32.
"""

from __future__ import annotations

from lram.agents.backbones.linear import Linear
from lram.agents.backbones.parts.attention import LocalAttention
from lram.agents.backbones.parts.block import Mixer, MixerBlock, MixerStack
from lram.agents.backbones.parts.convolution import PreviousToken, ShortConvolution
from lram.agents.backbones.parts.feed_forward import GatedFeedForward
from lram.agents.backbones.parts.headwise import HeadwiseLinear
from lram.agents.backbones.parts.matrix_memory import MatrixMemory
from lram.agents.backbones.parts.norms import GatedRMSNorm, RMSNorm
from lram.agents.backbones.parts.vector_memory import VectorMemory

__all__ = [
    "GatedFeedForward",
    "GatedRMSNorm",
    "HeadwiseLinear",
    "Linear",
    "LocalAttention",
    "MatrixMemory",
    "Mixer",
    "MixerBlock",
    "MixerStack",
    "PreviousToken",
    "RMSNorm",
    "ShortConvolution",
    "VectorMemory",
]

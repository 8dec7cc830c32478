"""Backbones: what reads a stream of tokens. A kind is one specification, and everything known of it is
with it.
"""

from __future__ import annotations

from lram.agents.backbones.registry import find_spec, kinds, register, spec_of
from lram.agents.backbones.spec import COMPILED_PARTS, BackboneSpec, EncoderWeights, ModelShape, Past, Size

__all__ = [
    "COMPILED_PARTS",
    "BackboneSpec",
    "EncoderWeights",
    "ModelShape",
    "Past",
    "Size",
    "find_spec",
    "kinds",
    "register",
    "spec_of",
]

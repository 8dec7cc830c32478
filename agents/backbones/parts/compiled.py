"""The compiled step of any backbone that is made of parts: the same code on each part's compiled form.

Needs numba, float32 weights and a processor, as every fused step.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.kernels.linear import PackedLinear
from lram.agents.backbones.linear import Linear
from lram.agents.backbones.parts.block import Mixer
from lram.agents.backbones.parts.part import Part
from lram.agents.backbones.states import State


class CompiledStep:
    """Called as the backbone's ``step``, with the same states; for its weights as they are now.

    Args:
        backbone: Any whose ``step`` calls its modules.
        tokens: About how many a pass will have, all rows together.
    """

    def __init__(self, backbone: Backbone, tokens: int) -> None:
        self._backbone: Backbone = with_compiled_parts(backbone, tokens)

    def __call__(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :meth:`lram.agents.backbones.contract.Backbone.step`; ``state`` may be written to."""
        return self._backbone.step(x.contiguous(), state, valid)


def with_compiled_parts(module: nn.Module, tokens: int) -> Any:
    """Return ``module`` with compiled parts in it; ``module`` itself and its parameters are as before."""
    if isinstance(module, Part):
        return module.compiled(tokens)
    # Of exactly these classes: another subclass may compute something else.
    if isinstance(module, nn.Linear) and type(module) in (nn.Linear, Linear):
        return PackedLinear.of(module, tokens)
    children = {name: with_compiled_parts(child, tokens) for name, child in module.named_children()}
    methods = module.compiled_methods() if isinstance(module, Mixer) else {}
    if not methods and all(children[name] is child for name, child in module.named_children()):
        return module
    if isinstance(module, nn.ModuleList):
        return list(children.values())
    made = copy.copy(module)
    # Beside parameters and what is no module: found at once, where nn.Module would look in three places.
    made.__dict__.update(children, **methods)
    return made

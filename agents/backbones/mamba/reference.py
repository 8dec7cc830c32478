"""What a Mamba of the reference implementation looks like, see :mod:`lram.agents.checkpoints.reference`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.spec import ReferenceChoices, TensorSize

BLOCK = re.compile(r"backbone\.layers\.([0-9]{1,4})\.")


def arrange(weights: dict[str, Tensor]) -> None:
    """Renamed weights have our order."""


def options_of(
    weights: Mapping[str, Tensor], size: TensorSize, width: int, layers: int, choices: ReferenceChoices
) -> MambaConfig:
    """Return the options that the weights show."""
    mixer = "backbone.layers.0.mixer."
    channels = size(f"{mixer}A_log", 0)
    if channels % width:
        raise AgentError(f"the {channels} channels of a Mamba block are no multiple of the width {width}")
    rank = size(f"{mixer}dt_proj.weight", 1)
    return MambaConfig(
        state_size=size(f"{mixer}A_log", 1),
        conv_kernel=size(f"{mixer}conv1d.weight", 2),
        expand=channels // width,
        dt_rank=None if rank == math.ceil(width / 16) else rank,
    )


def assumed(options: MambaConfig, choices: ReferenceChoices) -> dict[str, str]:
    """Return what the weights do not tell of its options, each with its value and why."""
    return {}

"""GRU and LSTM: the classic gated recurrences, by torch's own cells.

Cho et al. 2014 (arXiv 1406.1078) and Hochreiter and Schmidhuber 1997 (Neural Computation 9:1735), as pre-norm
residual blocks. They are written as a backbone from outside would be: options, a class, a specification.
"""

from __future__ import annotations

from dataclasses import dataclass

from lram.agents.backbones.limits import check_limits
from lram.agents.backbones.sizes import table_sizes
from lram.agents.backbones.spec import BackboneSpec, ModelShape


@dataclass(frozen=True, slots=True)
class GRUConfig:
    """A stack of GRUs.

    Attributes:
        hidden: Width of the recurrent state; None: the width of a token. Another width needs a projection
            back.
    """

    hidden: int | None = None


@dataclass(frozen=True, slots=True)
class LSTMConfig:
    """A stack of LSTMs.

    Attributes:
        hidden: See :class:`GRUConfig`.
    """

    hidden: int | None = None


def _check(model: ModelShape) -> None:
    kind = "gru" if isinstance(model.backbone, GRUConfig) else "lstm"
    check_limits(f"{kind}.hidden", model.backbone.hidden)


def _describe(model: ModelShape) -> str:
    title = "GRU" if isinstance(model.backbone, GRUConfig) else "LSTM"
    hidden = model.backbone.hidden
    return title if hidden in (None, model.width) else f"{title} (state of {hidden})"


GRU = BackboneSpec(
    kind="gru",
    options=GRUConfig,
    build="lram.agents.backbones.cells.plain:GRU",
    title="GRU",
    check=_check,
    describe=_describe,
    sizes=table_sizes("gru"),
)

LSTM = BackboneSpec(
    kind="lstm",
    options=LSTMConfig,
    build="lram.agents.backbones.cells.plain:LSTM",
    title="LSTM",
    check=_check,
    describe=_describe,
    sizes=table_sizes("lstm"),
)

"""How a model computes: device, precision, form of the step. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from lram.agents.api import AgentError
from lram.agents.devices import NEEDED, split_devices

StepForm = Literal["auto", "torch", "fused", "captured", "triton", "compile", "graphs"]
SequenceForm = Literal["auto", "torch", "fused", "packages", "triton"]
Precision = Literal["float32", "bfloat16", "bfloat16-weights", "int8"]
Narrow = Literal["bfloat16-weights", "int8"]
FORMS: tuple[StepForm, ...] = get_args(StepForm)
SEQUENCE_FORMS: tuple[SequenceForm, ...] = get_args(SequenceForm)
"""How whole sequences are read, in training (:mod:`lram.agents.backbones.sequences`)."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
NARROW: tuple[Narrow, ...] = get_args(Narrow)
"""Precisions in which only the weights of matrix products are rounded
(:mod:`lram.agents.backbones.narrow_weights`): the model computes in float32."""


ROWS = 8
"""Rows of a pass, usually. Multiples of 8 also keep every tensor's size a multiple of the vector
registers': PyTorch computes the odd numbers at a tensor's end by another routine, with other rounding."""


@dataclass(frozen=True, slots=True)
class Compute:
    """How a model computes; AgentError for a name that is not known.

    Attributes:
        device: Where its weights go, as torch names it: ``cpu``, ``cuda``, ``cuda:1``. Of a run with several
            agents also a comma list, whose devices they take in turn (:meth:`on`).
        precision: ``float32`` and ``bfloat16`` are the type of weights and activations; of
            ``bfloat16-weights`` and ``int8`` (a scale an output) are the weights of matrix products only, and
            activations are float32. Recurrent states and caches are float32 always.
        step: Form of the backbone's step, see :mod:`lram.agents.backbones.stepping`.
        rows: Lanes that share a pass: 1, or a multiple of 8 (:mod:`lram.agents.acting.model_agent` tells
            why).
    """

    device: str = "cpu"
    precision: Precision = "float32"
    step: StepForm = "auto"
    rows: int = ROWS

    def __post_init__(self) -> None:
        for what, value, known in (("precision", self.precision, PRECISIONS), ("step", self.step, FORMS)):
            if value not in known:
                raise AgentError(f"there is no {what} {value!r}; choose one of {', '.join(known)}")
        if not self.device:
            raise AgentError(f"the device has no name; use {NEEDED}")
        split_devices(self.device)  # raises, where it is no list of them
        if type(self.rows) is not int:
            raise AgentError(f"rows of a pass must be a whole number, not {self.rows!r}")
        if self.rows != 1 and (self.rows < 1 or self.rows % ROWS):
            raise AgentError(f"rows of a pass must be 1 or a multiple of {ROWS}, not {self.rows}")

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that ``device`` names: one, or those of a comma list."""
        return split_devices(self.device)

    def on(self, device: str) -> Compute:
        """Return this, on one of the devices that it names."""
        return replace(self, device=device)

    @property
    def narrow(self) -> Narrow | None:
        """What the weights of matrix products are rounded to, where they alone are; else None."""
        return narrow(self.precision)


def narrow(precision: Precision) -> Narrow | None:
    """Return ``precision`` where it is of the weights of matrix products only; else None."""
    return next((form for form in NARROW if form == precision), None)

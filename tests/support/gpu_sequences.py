"""How a kernel of whole sequences is held to plain PyTorch in float64, and how faults are planted in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.sequences import read_sequences
from lram.agents.compute import SequenceForm

Read = Callable[..., Tensor]

ROUNDING = 2.0**-8
"""Of a number to bfloat16, at most."""


def compared(read: Read, plain: Read, names: Sequence[str], given: list[Tensor], tolerance: float) -> None:
    """Compare what is read and every gradient with those of ``plain`` in float64.

    Args:
        read: Of kernels.
        plain: The same function of float64 numbers.
        names: That of the result, then of what is ``given``.
        given: What is read.
        tolerance: Of the norm of a difference, as a part of the number's own; of bfloat16 numbers, that of
            their rounding at least.
    """
    results = _results(read, names, given)
    expected = _results(plain, names, [one.double() for one in given])
    types = {name: one.dtype for name, one in results.items() if name != names[0]}
    assert types == {name: one.dtype for name, one in zip(names[1:], given, strict=True)}
    for name, one in expected.items():
        difference = float((results[name] - one).norm() / one.norm().clamp(min=1e-3))
        allowed = max(tolerance, ROUNDING if results[name].dtype == torch.bfloat16 else 0.0)
        assert difference < allowed, f"{name}: {difference:.1e}"


def _results(read: Read, names: Sequence[str], given: list[Tensor]) -> dict[str, Tensor]:
    own = [one.detach().clone().requires_grad_() for one in given]
    y = read(*own)
    # The same slopes in every type.
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(9)).bfloat16().to(y.device)
    (y * weights.to(y.dtype)).sum().backward()  # type: ignore[no-untyped-call]
    return dict(zip(names, [y.detach(), *(one.grad for one in own)], strict=True))  # type: ignore[list-item]


def compared_backbone(backbone: Backbone, tokens: int) -> None:
    """Compare hidden states and the gradient of every parameter of the forms ``triton`` and ``torch``."""
    ours, plain = (_of_backbone(backbone, tokens, form) for form in ("triton", "torch"))  # type: ignore[arg-type]
    for name, one in plain.items():
        assert _apart(ours[name], one) < 2e-5, name


def compared_under_autocast(backbone: Backbone, tokens: int) -> None:
    """Compare what rounding to bfloat16 does in the form ``triton`` with what it does in ``torch``."""
    exact = _of_backbone(backbone, tokens, "torch")
    ours, plain = (_of_backbone(backbone, tokens, form, autocast=True) for form in ("triton", "torch"))  # type: ignore[arg-type]
    assert max(_apart(plain[name], one) for name, one in exact.items()) > 1e-3, "nothing is rounded"
    for name, one in exact.items():
        assert _apart(ours[name], one) < 1.5 * _apart(plain[name], one) + 1e-3, name


def _of_backbone(
    backbone: Backbone, tokens: int, form: SequenceForm, autocast: bool = False
) -> dict[str, Tensor]:
    device = next(backbone.parameters()).device
    x = torch.randn(2, tokens, 24, generator=torch.Generator().manual_seed(1)).to(device)
    backbone.zero_grad()
    with read_sequences(form), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        y = backbone(x)
    y.float().square().sum().backward()
    gradients = {name: one.grad for name, one in backbone.named_parameters() if one.grad is not None}
    assert len(gradients) == len(list(backbone.parameters()))
    return {"y": y.detach().float(), **{name: one.clone() for name, one in gradients.items()}}


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm().clamp(min=0.05))


class Faulty:
    """A kernel whose arguments are changed before it runs."""

    def __init__(self, kernel: Any, change: Callable[[dict[str, Any]], None]) -> None:
        self._kernel, self._change = kernel, change

    def __getitem__(self, grid: Any) -> Any:
        def run(*given: Any, **named: Any) -> None:
            everything = {**dict(zip(self._kernel.arg_names, given, strict=False)), **named}
            self._change(everything)
            self._kernel[grid](**everything)

        return run


def times(name: str, factor: float) -> Callable[[dict[str, Any]], None]:
    """Return what multiplies an argument of a :class:`Faulty` kernel."""
    return lambda given: given.update({name: given[name] * factor})

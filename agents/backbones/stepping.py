"""How a backbone's ``step`` is computed: plain PyTorch, fused kernels, or PyTorch's compiler.

    auto      fused where it can be, otherwise torch
    torch     plain PyTorch operations: every device, every type
    fused     compiled kernels for processors (:mod:`lram.agents.backbones.kernels`): needs numba, float32
    captured  plain PyTorch operations, recorded as CUDA graphs (:mod:`lram.agents.backbones.captured`)
    triton    the same with Triton kernels for the memories (:mod:`lram.agents.backbones.gpu`)
    compile   ``torch.compile`` of the plain step (a minute of start-up)
    graphs    the same with CUDA graphs where there is a GPU (mode ``reduce-overhead``)

All give the same numbers up to rounding, and one state serves them all. What a CUDA graph gives lies in
memory that its next run writes over, while a state is kept for the next decision and beside those of other
lanes: so ``graphs`` hands out copies, and the step that acts is checked for that
(:mod:`lram.agents.checks.equivalence`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.backbones.captured import CapturedStep, record_graph, repeat, tf32, why_not_captured
from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.narrow_weights import weights_kept_as
from lram.agents.backbones.registry import spec_of_class
from lram.agents.backbones.sequences import numba_problem
from lram.agents.backbones.states import State, copied
from lram.agents.backbones.uncompiled import leave_marked_alone
from lram.agents.compute import FORMS, Narrow, StepForm

StepFunction = Callable[[Tensor, State, "Tensor | None"], tuple[Tensor, State]]


@dataclass(frozen=True, slots=True)
class Stepper:
    """A backbone's ``step``, for its weights as they were when this was made.

    Attributes:
        form: How it is computed.
        detail: The same for people, with the version of what computes it.
        call: Takes and returns what :meth:`lram.agents.backbones.contract.Backbone.step` does, for acting:
            the
            fused form has no gradients.
    """

    form: StepForm
    detail: str
    call: StepFunction


def make_stepper(
    backbone: Backbone, form: str = "auto", *, rows: int = 8, tokens: int = 3, weights: Narrow | None = None
) -> Stepper:
    """Return the step of ``backbone`` in the asked form.

    Args:
        backbone: Its weights must not change while the stepper is in use.
        form: One of ``FORMS``.
        rows: Rows of the passes to come; others are allowed, at less speed.
        tokens: Tokens of a row in them, likewise.
        weights: What the matrices of ``backbone`` were rounded to (:mod:`lram.agents.model.rounding`): the
            fused step keeps them so; others compute with the float32 numbers that they are.

    Raises:
        AgentError: The form does not exist, or cannot be used here.
    """
    if form not in FORMS:
        raise AgentError(f"there is no step form {form!r}; choose one of {', '.join(FORMS)}")
    if form == "auto":
        form = "torch" if why_not_fused(backbone) else "fused"
    if form == "fused":
        reason = why_not_fused(backbone)
        if reason is not None:
            raise AgentError(f"the fused step cannot be used: {reason}; use the step form torch")
        return _fused(backbone, rows, tokens, weights)
    plain = f"{backbone.plain_detail()} {torch.__version__}"
    if backbone.device.type == "cuda":
        plain = f"{plain}, {tf32()}"
    if form == "torch":
        return Stepper("torch", plain, backbone.step)
    if form in ("captured", "triton"):
        reason = why_not_captured(backbone, kernels=form == "triton")
        if reason is not None:
            raise AgentError(f"the {form} step cannot be used: {reason}; use the step form torch")
        if form == "captured":
            return Stepper("captured", f"CUDA graphs of {plain}", CapturedStep(backbone, record_graph))
        return _with_kernels(backbone)
    return _compiled(backbone, form)


def _with_kernels(backbone: Backbone) -> Stepper:
    recorded = backbone.device.type == "cuda"  # elsewhere kernels are interpreted
    call = CapturedStep(backbone, record_graph if recorded else repeat, kernels=True)
    plain = f"plain PyTorch {torch.__version__}"
    if recorded:
        return Stepper("triton", f"CUDA graphs of Triton kernels and {plain}, {tf32()}", call)
    return Stepper("triton", f"Triton kernels in Triton's interpreter, {plain}", call)


def why_not_fused(backbone: Backbone) -> str | None:
    """Return what keeps ``backbone`` from the fused step, or None."""
    if not _fused_class(backbone):
        return f"there is none for a {type(backbone).__name__}"
    if backbone.device.type != "cpu":
        return f"it runs on processors, and the weights are on {backbone.device}"
    types = {parameter.dtype for parameter in backbone.parameters()}
    if types != {torch.float32}:
        return f"it computes in float32, and the weights are {', '.join(sorted(map(str, types)))}"
    return numba_problem()


def _fused(backbone: Backbone, rows: int, tokens: int, weights: Narrow | None) -> Stepper:
    import numba

    module, _, name = _fused_class(backbone).partition(":")
    with weights_kept_as(weights) as matrices:
        made: Any = getattr(importlib.import_module(module), name)(backbone, rows * tokens)
    kept = f"{matrices}, " if weights else ""
    detail = f"fused kernels, {kept}numba {numba.__version__}, PyTorch {torch.__version__}"
    return Stepper("fused", detail, torch.no_grad()(made.__call__))


def _fused_class(backbone: Backbone) -> str:
    # Of exactly this class: a subclass may compute something else.
    spec = spec_of_class(backbone)
    return "" if spec is None else spec.fused


def _compiled(backbone: Backbone, form: str) -> Stepper:
    mode = "reduce-overhead" if form == "graphs" else "default"
    leave_marked_alone()
    call = torch.compile(backbone.step, mode=mode, dynamic=False)
    detail = f"torch.compile, mode {mode}, PyTorch {torch.__version__}"
    if form == "graphs":
        return Stepper("graphs", detail, with_own_outputs(call))
    return Stepper("compile", detail, call)


def with_own_outputs(call: StepFunction) -> StepFunction:
    """Return ``call`` so that what it gives stays as it is, however often it is called again."""

    def step(x: Tensor, state: State, valid: Tensor | None) -> tuple[Tensor, State]:
        # Tells PyTorch that nothing refers to what its graphs gave before: all of it was copied.
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        y, state = call(x, state, valid)
        return y.clone(), copied(state)

    return step

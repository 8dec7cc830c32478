"""A backbone's plain step as a CUDA graph over fixed memory: one launch a pass instead of hundreds.

A graph plays the same operations at the same addresses again. So the tokens of a pass are copied into
tensors of the graph's own, the state is updated in place where the caller keeps it, and the hidden states are
handed out as a copy. What the host has to decide before a pass, :meth:`Backbone.ready` decides; a pass that
needs more than that is read by the plain step.

A graph is recorded when a state, a shape of a pass, or the first pass with masked tokens is met. It holds on
to addresses only: where a state is freed and another one of the same layout comes to lie at the same place,
its graph is right for that, too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.gpu import interpreted, kernels_here, triton_problem, why_no_kernels
from lram.agents.backbones.recording import recorded_here
from lram.agents.backbones.states import State, copied, tensors
from lram.agents.memory import is_lack

Run: TypeAlias = Callable[[State], None]
"""Reads a pass: from the input buffers and the state, into the output buffer and the state."""

Compute: TypeAlias = Callable[[tuple[Tensor, ...], State], tuple[Tensor, State]]
"""Computes a pass of what it is given and a state that is ready."""

Recorder: TypeAlias = Callable[[Run, State], Run]
"""Returns what does the same as the given function, for a state at the addresses of the given one."""

MOST = 64
"""Graphs that are kept; beyond, the one that was not used for longest goes."""


@dataclass(frozen=True, slots=True)
class CapturedPass:
    """Passes of one shape over one state.

    Attributes:
        given: What they are given is copied to here.
        y: What they give comes to lie here.
        play: Reads a pass.
    """

    given: tuple[Tensor, ...]
    y: Tensor
    play: Run


class CapturedStep:
    """``step`` of a backbone, its passes recorded.

    Args:
        backbone: Its weights must stay where they are.
        record: :func:`record_graph`, or :func:`repeat` where nothing can be recorded.
        kernels: Whether those of :mod:`lram.agents.backbones.gpu` are to be used.
    """

    def __init__(self, backbone: Backbone, record: Recorder, *, kernels: bool = False) -> None:
        self._backbone, self._record = backbone, record
        self._form: Callable[[], AbstractContextManager[None]] = kernels_here if kernels else nullcontext
        self._passes: OrderedDict[Hashable, CapturedPass] = OrderedDict()

    @torch.no_grad()
    def __call__(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """See :meth:`Backbone.step`. The tensors of the returned state are those of ``state``.

        Raises:
            AgentError: The backbone's state does not keep its layout.
        """
        ready = self._backbone.ready(state, x.shape[1])
        if ready is None:
            return self._backbone.step(x, state, valid)

        def compute(given: tuple[Tensor, ...], past: State) -> tuple[Tensor, State]:
            return self._backbone.ready_step(given[0], past, given[1] if len(given) > 1 else None)

        given = (x,) if valid is None else (x, valid)
        return self.read(given, "step", ready, compute, lambda: torch.empty_like(x)).clone(), ready

    @torch.no_grad()
    def read(
        self,
        given: tuple[Tensor, ...],
        what: Hashable,
        state: State,
        compute: Compute,
        output: Callable[[], Tensor],
    ) -> Tensor:
        """Read a pass into ``state``, which is ready, by a recording that is made where there is none yet.

        Args:
            given: On the device, or in page-locked memory.
            what: Tells passes of different ``compute`` apart.
            state: Ready for it; written to.
            compute: What is recorded.
            output: Makes the memory of what it gives.

        Returns:
            That memory, which the next such pass writes over.

        Raises:
            AgentError: As a call.
        """
        shapes = tuple((one.shape, one.dtype) for one in given)
        key = (what, shapes, *map(place, tensors(state)))
        known = self._passes.get(key)
        if known is None:
            known = self._passes[key] = self._made(given, state, compute, output())
            if len(self._passes) > MOST:
                self._passes.popitem(last=False)
        self._passes.move_to_end(key)
        _copy(given, known.given)
        known.play(state)
        return known.y

    def _made(self, given: tuple[Tensor, ...], state: State, compute: Compute, y: Tensor) -> CapturedPass:
        own = tuple(torch.empty(one.shape, dtype=one.dtype, device=y.device) for one in given)
        _copy(given, own)  # what is tried before it is recorded may be an index

        def run(state: State) -> None:
            with recorded_here(), self._form():
                hidden, after = compute(own, state)
            y.copy_(hidden)
            self._keep(state, after)

        return CapturedPass(own, y, self._record(run, state))

    def _keep(self, state: State, after: State) -> None:
        """Write ``after`` into the tensors of ``state``."""
        old, new = tensors(state), tensors(after)
        if [one.shape for one in old] != [one.shape for one in new]:
            kind = type(self._backbone).__name__
            raise AgentError(
                f"the captured step cannot be used: a pass changes the sizes of a {kind}'s state; use the "
                "step form torch"
            )
        moved = [(one, other) for one, other in zip(old, new, strict=True) if place(one) != place(other)]
        # What is another part of the old state must be read before that is written over.
        memory = {one.untyped_storage()._cdata for one in old}
        sources = [other.clone() if other.untyped_storage()._cdata in memory else other for _, other in moved]
        for (one, _), source in zip(moved, sources, strict=True):
            one.copy_(source)


def _copy(sources: tuple[Tensor, ...], targets: tuple[Tensor, ...]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source, non_blocking=True)


def place(tensor: Tensor) -> tuple[int, torch.Size, tuple[int, ...]]:
    """Return where a tensor's numbers are and how they lie there."""
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def repeat(run: Run, state: State) -> Run:
    """Record nothing: every pass does again what would have been recorded."""
    return run


def record_graph(run: Run, state: State) -> Run:
    """Record ``run`` over ``state``, whose numbers stay as they are, as a CUDA graph; see :data:`Recorder`.

    Raises:
        AgentError: It does something that cannot be recorded.
    """
    device = next(one.device for one in tensors(state) if one.is_cuda)
    with torch.cuda.device(device):
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):  # libraries make their plans and memory at first
                run(copied(state))
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            # Not "global": another thread may wait for the result of a pass that was launched before.
            with torch.cuda.graph(graph, pool=_memory(device), capture_error_mode="thread_local"):
                run(state)
        except RuntimeError as error:
            if is_lack(error):
                raise
            reason = str(error).partition("\n")[0]
            raise AgentError(
                f"the step cannot be recorded as a CUDA graph ({reason}); use the step form torch"
            ) from error
    return lambda _: graph.replay()


@cache
def _memory(device: torch.device) -> Any:
    """What the graphs need between their operations; passes follow each other, so they share it."""
    return torch.cuda.graph_pool_handle()


def why_not_captured(backbone: Backbone, *, kernels: bool = False) -> str | None:
    """Return what keeps ``backbone`` from the captured step, with or without kernels, or None."""
    reason = why_no_kernels(backbone) if kernels else None
    if reason is None and backbone.device.type != "cuda" and not (kernels and interpreted()):
        reason = f"CUDA graphs are of GPUs, and the weights are on {backbone.device}"
    return triton_problem() if reason is None and kernels else reason


def tf32() -> str:
    """Say which float32 operations round their inputs to 10 bits on GPUs that can."""
    products, convolutions = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    where = [what for what, there in (("products", products), ("convolutions", convolutions)) if there]
    return f"TF32 in {' and '.join(where)}" if where else "no TF32"

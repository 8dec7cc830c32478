"""What a matrix memory does to a panel of columns, on the processor's vectors.

numba does not compute the loops over several rows of a matrix with vectors, because each row might overlap
with any other. These functions are LLVM instructions instead: for one token, all rows of a panel are passed
through while what belongs to its columns stays in registers. The columns of a matrix are independent, so a
panel can be led through many tokens while it lies in the first cache.

Shapes: M rows, N columns of a matrix. Arrays are contiguous; where in them something begins is counted in
numbers (``_at``; slices would cost more than a small panel does), a panel of a matrix begins at its first
column. Nothing is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

from lram.agents.backbones.kernels.compiler import inner_kernel
from lram.agents.backbones.kernels.tiles import LANES, broadcast

_MOST, _HALF = 4 * LANES, 2 * LANES

_index, _float = ir.IntType(64), ir.FloatType()


class _Panel:
    """Builds the instructions of one function, which passes through the rows of ``vectors`` x ``lanes``."""

    def __init__(
        self, context: Any, builder: Any, signature: Any, arguments: Any, *, lanes: int, vectors: int
    ) -> None:
        self.builder, self.lanes, self.vectors = builder, lanes, vectors
        self.vector = ir.VectorType(_float, lanes)
        self._numbers = [
            arrayobj.make_array(kind)(context, builder, value).data
            if isinstance(kind, numba.types.Array)
            else value
            for kind, value in zip(signature.args, arguments, strict=True)
        ]
        called = ir.FunctionType(self.vector, [self.vector] * 3)
        self.nothing = context.get_dummy_value()
        self._fma = cgutils.get_or_insert_function(builder.module, called, f"llvm.fma.v{lanes}f32")

    def spread(self, array: int, at: int, row: Any) -> Any:
        """Return one number of a vector (M,), in all lanes; arguments by their places."""
        builder = self.builder
        value = builder.load(builder.gep(self._numbers[array], [builder.add(self._numbers[at], row)]))
        return broadcast(builder, value, self.vector)

    def columns(self, array: int, at: int, row: Any = None, stride: int = 0) -> list[Any]:
        """Return pointers to a panel of a vector (N,), or of a matrix's row."""
        builder, first = self.builder, self._numbers[at]
        if row is not None:
            first = builder.add(first, builder.mul(row, self._numbers[stride]))
        start = builder.gep(self._numbers[array], [first])
        places = [builder.gep(start, [_index(v * self.lanes)]) for v in range(self.vectors)]
        return [builder.bitcast(place, self.vector.as_pointer()) for place in places]

    def load(self, places: list[Any]) -> list[Any]:
        """Return the numbers at these places."""
        return [self.builder.load(place, align=4) for place in places]

    def store(self, values: list[Any], places: list[Any]) -> None:
        """Write numbers to these places."""
        for value, place in zip(values, places, strict=True):
            self.builder.store(value, place, align=4)

    def add_product(self, factor: Any, values: list[Any], to: list[Any]) -> list[Any]:
        """Return factor x values + to."""
        return [self.builder.call(self._fma, [factor, x, y]) for x, y in zip(values, to, strict=True)]

    def over(self, rows: int, each: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """Return sums that begin at 0 and that ``each`` (row, sums) returns anew; at least one row."""
        builder, before = self.builder, self.builder.block
        loop, done = builder.append_basic_block("row"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        row = builder.phi(_index)
        row.add_incoming(_index(0), before)
        sums = [builder.phi(self.vector) for _ in range(self.vectors)]
        new = each(row, sums)
        following = builder.add(row, _index(1))
        row.add_incoming(following, loop)
        for total, value in zip(sums, new, strict=True):
            total.add_incoming(ir.Constant(self.vector, [0.0] * self.lanes), before)
            total.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, self._numbers[rows]), loop, done)
        builder.position_at_end(done)
        return new


def _held(lanes: int, vectors: int) -> Any:
    def build(*call: Any) -> Any:
        panel = _Panel(*call, lanes=lanes, vectors=vectors)

        def each(row: Any, sums: list[Any]) -> list[Any]:
            return panel.add_product(panel.spread(4, 5, row), panel.load(panel.columns(0, 1, row, 3)), sums)

        panel.store(panel.over(2, each), panel.columns(6, 7))
        return panel.nothing

    def typed(  # type: ignore[no-untyped-def]
        context, S, S_at, M, N, a, a_at, r, r_at
    ):
        number = numba.types.int64
        return numba.types.void(S, number, number, number, a, number, r, number), build

    return intrinsic(typed)


def _write(lanes: int, vectors: int, corrected: bool) -> Any:
    def build(*call: Any) -> Any:
        panel = _Panel(*call, lanes=lanes, vectors=vectors)
        v = panel.load(panel.columns(11, 13))
        r = panel.load(panel.columns(16, 17)) if corrected else []

        def each(row: Any, sums: list[Any]) -> list[Any]:
            w = panel.spread(6, 7, row)
            x = [panel.builder.fmul(w, one) for one in panel.load(panel.columns(0, 1, row, 5))]
            x = panel.add_product(panel.spread(8, 10, row), v, x)
            if corrected:
                x = panel.add_product(panel.spread(14, 15, row), r, x)
            panel.store(x, panel.columns(2, 3, row, 5))
            return panel.add_product(panel.spread(9, 10, row), x, sums)

        panel.store(panel.over(4, each), panel.columns(12, 13))
        return panel.nothing

    def typed(  # type: ignore[no-untyped-def]
        context, old, old_at, new, new_at, M, N, w, w_at, k, q, k_at, v, out, v_at, b, b_at, r, r_at
    ):
        number = numba.types.int64
        matrices, keys = (old, number, new, number, number, number), (w, number, k, q, number)
        return numba.types.void(*matrices, *keys, v, out, number, b, number, r, number), build

    return intrinsic(typed)


_FORMS = ((LANES, 4), (LANES, 2), (LANES, 1), (8, 1), (4, 1), (1, 1))
_held_most, _held_half, _held_one, _held_8, _held_4, _held_1 = (_held(*form) for form in _FORMS)
_write_most, _write_half, _write_one, _write_8, _write_4, _write_1 = (_write(*form, False) for form in _FORMS)
_fix_most, _fix_half, _fix_one, _fix_8, _fix_4, _fix_1 = (_write(*form, True) for form in _FORMS)


@inner_kernel
def panel_width(left: int) -> int:
    """Return how many of the columns that are left are the next panel."""
    if left >= _MOST:
        return _MOST
    if left >= _HALF:
        return _HALF
    if left >= LANES:
        return LANES
    if left >= 8:
        return 8
    return 4 if left >= 4 else 1


@inner_kernel
def held(width: int, *panel: Any) -> None:
    """r (N,) = a^T S in a panel: (S, S_at, M, N, a, a_at, r, r_at)."""
    if width == _MOST:
        _held_most(*panel)
    elif width == _HALF:
        _held_half(*panel)
    elif width == LANES:
        _held_one(*panel)
    elif width == 8:
        _held_8(*panel)
    elif width == 4:
        _held_4(*panel)
    else:
        _held_1(*panel)


@inner_kernel
def write_and_read(width: int, *panel: Any) -> None:
    """new = diag(w) old + k v^T, which may be the same; out (N,) = new^T q; in a panel.

    (old, old_at, new, new_at, M, N, w, w_at, k, q, k_at, v, out, v_at, b, b_at, r, r_at), as of
    :func:`correct_write_and_read`.
    """
    if width == _MOST:
        _write_most(*panel)
    elif width == _HALF:
        _write_half(*panel)
    elif width == LANES:
        _write_one(*panel)
    elif width == 8:
        _write_8(*panel)
    elif width == 4:
        _write_4(*panel)
    else:
        _write_1(*panel)


@inner_kernel
def correct_write_and_read(width: int, *panel: Any) -> None:
    """The same with new = diag(w) old + b r^T + k v^T."""
    if width == _MOST:
        _fix_most(*panel)
    elif width == _HALF:
        _fix_half(*panel)
    elif width == LANES:
        _fix_one(*panel)
    elif width == 8:
        _fix_8(*panel)
    elif width == 4:
        _fix_4(*panel)
    else:
        _fix_1(*panel)

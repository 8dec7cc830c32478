"""Small matrix products inside of kernels, on the processor's vectors.

numba's loops over three indices reach a quarter of a core's arithmetic, because sums go through memory.
``_tile`` writes LLVM instructions instead: a tile of the result stays in registers while the loop over the
inner index runs (Zen 5 core, 150 x 48 x 192: 240 of 256 Gflop/s). Operands are one-dimensional arrays with
offsets and strides, counted in numbers; nothing is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

from lram.agents.backbones.kernels.compiler import inner_kernel

ROWS = 8
"""Rows of a tile: products are over multiples of it."""

COLUMNS = 16
"""Columns of results are in multiples of it, too."""

# A result of 8 x 48 fills 24 of AVX-512's 32 registers; elsewhere half as wide in two goes.
_WIDE = "+avx512f" in (numba.config.CPU_FEATURES or llvmlite.binding.get_host_cpu_features().flatten())
LANES = 16 if _WIDE else 8
"""Numbers of the processor's widest vectors."""

_index, _float = ir.IntType(64), ir.FloatType()


def _tile(rows: int, vectors: int) -> Callable[..., Any]:
    """Return what adds a product to a tile of rows x (vectors of lanes)."""
    vector = ir.VectorType(_float, LANES)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def pointer(place: int) -> Any:
            array = arrayobj.make_array(signature.args[place])(context, builder, arguments[place])
            return builder.gep(array.data, [arguments[place + 1]])

        def vectors_at(start: Any) -> list[Any]:
            places = [builder.gep(start, [_index(v * LANES)]) for v in range(vectors)]
            return [builder.bitcast(place, vector.as_pointer()) for place in places]

        a, b, c = pointer(0), pointer(4), pointer(7)
        a_row, a_inner, b_inner, c_row, count = (arguments[place] for place in (2, 3, 6, 9, 10))
        form = ir.FunctionType(vector, [vector] * 3)
        multiply_add = cgutils.get_or_insert_function(builder.module, form, f"llvm.fma.v{LANES}f32")
        a_rows = [builder.gep(a, [builder.mul(a_row, _index(row))]) for row in range(rows)]
        c_places = [vectors_at(builder.gep(c, [builder.mul(c_row, _index(row))])) for row in range(rows)]
        start = [builder.load(place, align=4) for places in c_places for place in places]

        before = builder.block
        loop, done = builder.append_basic_block("inner"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed(">", count, _index(0)), loop, done)
        builder.position_at_end(loop)
        inner = builder.phi(_index)
        inner.add_incoming(_index(0), before)
        sums = [builder.phi(vector) for _ in start]
        for total, value in zip(sums, start, strict=True):
            total.add_incoming(value, before)
        b_values = [
            builder.load(place, align=4)
            for place in vectors_at(builder.gep(b, [builder.mul(inner, b_inner)]))
        ]
        new = []
        for row in range(rows):
            factor = builder.load(builder.gep(a_rows[row], [builder.mul(inner, a_inner)]))
            spread = broadcast(builder, factor, vector)
            own = sums[row * vectors : (row + 1) * vectors]
            new += [
                builder.call(multiply_add, [spread, value, total])
                for value, total in zip(b_values, own, strict=True)
            ]
        following = builder.add(inner, _index(1))
        inner.add_incoming(following, loop)
        for total, value in zip(sums, new, strict=True):
            total.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, count), loop, done)

        builder.position_at_end(done)
        results = [builder.phi(vector) for _ in start]
        for result, first, last in zip(results, start, new, strict=True):
            result.add_incoming(first, before)
            result.add_incoming(last, loop)
        for result, place in zip(results, [place for places in c_places for place in places], strict=True):
            builder.store(result, place, align=4)
        return context.get_dummy_value()

    def typed(  # type: ignore[no-untyped-def]
        context, a, a_first, a_row, a_inner, b, b_first, b_inner, c, c_first, c_row, count
    ):
        number = numba.types.int64
        where = (number, number)
        signature = numba.types.void(a, number, *where, b, number, number, c, number, number, number)
        return signature, generate

    made: Callable[..., Any] = intrinsic(typed)
    return made


def broadcast(builder: Any, value: Any, vector: Any) -> Any:
    """Return a number in all lanes of a vector of that type."""
    undefined, i32 = ir.Constant(vector, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(undefined, value, i32(0))
    zeros = ir.Constant(ir.VectorType(i32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, undefined, zeros)


_tile_1, _tile_2, _tile_3 = (
    (_tile(ROWS, 1), _tile(ROWS, 2), _tile(ROWS, 3))
    if _WIDE
    else (_tile(ROWS // 2, 2), _tile(ROWS // 2, 2), _tile(ROWS // 2, 2))
)


UNIT: Any = np.int64(1)
"""A stride of 1. For a plain 1 numba would compile :func:`add_product` once more."""


@inner_kernel
def add_product(
    a: Any, a_row: int, a_inner: int, b: Any, b_inner: int, c: Any, c_row: int, columns: int, count: int
) -> None:
    """Add to c (8 rows, columns) the product of a (8, count) and b (count, columns).

    Number (r, k) of a is at r a_row + k a_inner. Rows of b and c are ``b_inner`` and ``c_row`` apart, their
    columns 1. ``columns`` is a multiple of 16.
    """
    done = 0
    while done < columns:
        left = columns - done
        if not _WIDE:
            _tile_2(a, 0, a_row, a_inner, b, done, b_inner, c, done, c_row, count)
            half = ROWS // 2
            _tile_2(a, half * a_row, a_row, a_inner, b, done, b_inner, c, half * c_row + done, c_row, count)
            done += 16
        elif left >= 96 or left == 48:
            _tile_3(a, 0, a_row, a_inner, b, done, b_inner, c, done, c_row, count)
            done += 48
        elif left >= 32:
            _tile_2(a, 0, a_row, a_inner, b, done, b_inner, c, done, c_row, count)
            done += 32
        else:
            _tile_1(a, 0, a_row, a_inner, b, done, b_inner, c, done, c_row, count)
            done += 16


@intrinsic  # type: ignore[untyped-decorator]
def blockwise(
    context: Any, x: Any, x_first: Any, weight: Any, w_first: Any, w_stride: Any, y: Any, y_first: Any
) -> Any:
    """y[c] += sum over i < 4 of weight[i, c] x[4 (c // 4) + i], for the 16 numbers from the given places.

    This multiplies by a matrix with blocks of 4 x 4 on its diagonal.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def place(argument: int, row: int = 0) -> Any:
            return _sixteen(context, builder, signature, arguments, argument, row, arguments[4])

        values, target = builder.load(place(0), align=4), place(5)
        total = builder.load(target, align=4)
        for i in range(4):
            taken = builder.load(place(2, i), align=4)
            total = builder.call(_multiply_add(builder), [_within_fours(builder, values, i), taken, total])
        builder.store(total, target, align=4)
        return context.get_dummy_value()

    number = numba.types.int64
    return numba.types.void(x, number, weight, number, number, y, number), generate


@intrinsic  # type: ignore[untyped-decorator]
def blockwise_weight(
    context: Any, x: Any, x_first: Any, dy: Any, dy_first: Any, dweight: Any, w_first: Any, w_stride: Any
) -> Any:
    """dweight[i, c] += dy[c] x[4 (c // 4) + i]: the gradient of :func:`blockwise` for its weights."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def place(argument: int, row: int = 0) -> Any:
            return _sixteen(context, builder, signature, arguments, argument, row, arguments[6])

        values, grads = builder.load(place(0), align=4), builder.load(place(2), align=4)
        for i in range(4):
            target = place(4, i)
            operands = [_within_fours(builder, values, i), grads, builder.load(target, align=4)]
            builder.store(builder.call(_multiply_add(builder), operands), target, align=4)
        return context.get_dummy_value()

    number = numba.types.int64
    return numba.types.void(x, number, dy, number, dweight, number, number), generate


_SIXTEEN = ir.VectorType(_float, 16)


def _sixteen(
    context: Any, builder: Any, signature: Any, arguments: Any, argument: int, row: int, stride: Any
) -> Any:
    """Pointer to 16 numbers of the array that is an argument, from the place that is the next one."""
    array = arrayobj.make_array(signature.args[argument])(context, builder, arguments[argument])
    first = builder.add(arguments[argument + 1], builder.mul(stride, _index(row)))
    return builder.bitcast(builder.gep(array.data, [first]), _SIXTEEN.as_pointer())


def _multiply_add(builder: Any) -> Any:
    form = ir.FunctionType(_SIXTEEN, [_SIXTEEN] * 3)
    return cgutils.get_or_insert_function(builder.module, form, "llvm.fma.v16f32")


def _within_fours(builder: Any, values: Any, i: int) -> Any:
    """Return the i-th of each four numbers, four times."""
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), 16), [4 * (lane // 4) + i for lane in range(16)])
    return builder.shuffle_vector(values, ir.Constant(_SIXTEEN, ir.Undefined), lanes)

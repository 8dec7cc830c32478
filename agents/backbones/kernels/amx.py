"""Products of many tokens with weights in bfloat16 or int8, on the matrix unit of x86 processors (AMX).

Its instruction multiplies tiles of bfloat16 (16 tokens by 32 inputs, and by 16 outputs) into sums of float32.
The weights are such numbers, integers of -127 to 127 included. A float32 activation is split into three, of 8
bits of its 24 each: their sum is the activation, so nothing is rounded but the sums. (Two parts, rounded to
nearest, left 3 to 20 times float32's own error; measured, 64 to 2,048 inputs.) Only what is below the
smallest normal float32 number is lost, as the unit takes it for 0.

An output's sum takes 32 inputs at a time, in an order that depends on nothing else: its bits depend neither
on the number of tokens nor on which panels are computed together. They are other bits than those of
:func:`lram.agents.backbones.kernels.narrow.narrow_product`, which sums input by input.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numba.np import arrayobj

from lram.agents.backbones.kernels.compiler import inner_kernel, kernel
from lram.agents.backbones.kernels.narrow import PANEL, finish
from lram.agents.backbones.kernels.tiles import LANES

_NEEDED = ("+amx-tile", "+amx-bf16", "+avx512f", "+avx512bw")
_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA = 158, 0x1023, 18


@cache
def amx_problem() -> str | None:
    """Return why :func:`tile_product` cannot be called in this process; None: it can.

    Asks Linux for the use of the unit's registers, which it grants to a process and all of its threads.
    """
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return "AMX is used on Linux on x86-64 alone"
    # What numba compiles for, which is a part of the name of kept code: a processor without AMX reads none.
    features = set(cpu_target.target_context.codegen().magic_tuple()[2].split(","))
    if not features.issuperset(_NEEDED) or LANES != 16:
        return "the processor has no AMX for bfloat16, or numba does not compile for it"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA):
        return f"the system does not grant AMX's registers ({os.strerror(ctypes.get_errno())})"
    return None


TOKENS, INPUTS, PARTS = 16, 32, 3
"""Most tokens of a tile, inputs of a tile, and numbers that an activation is split into."""

_TOGETHER = 3  # groups of tokens: with two vectors of outputs, 6 of the 8 tiles are sums
_AT_ONCE = 2 * _TOGETHER  # groups that are split at once, so that they stay in the cache
_BLOCK = INPUTS * LANES // 2  # words of a vector's tile of weights
_ACTIVATIONS, _WEIGHTS = 6, 7  # tiles

_i8, _i16, _i32, _index = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_pointer, _nothing = _i8.as_pointer(), ir.VoidType()
_vector, _words = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(_i32, LANES)


class _Call:
    """What builds the instructions of an intrinsic: its builder, and places in its arrays."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.context, self.builder, self.types, self.arguments = context, builder, signature.args, arguments

    def place(self, array: int, at: Any) -> Any:
        """Return the pointer to a number of the array that is an argument, as one to bytes."""
        made = arrayobj.make_array(self.types[array])(self.context, self.builder, self.arguments[array])
        return self.builder.bitcast(self.builder.gep(made.data, [at]), _pointer)

    def beyond(self, place: Any, count: Any) -> Any:
        """Return the place so many bytes further."""
        return self.builder.gep(place, [count if isinstance(count, ir.Value) else _index(count)])

    def tile(self, name: str, *operands: Any) -> None:
        """Call an instruction of the unit."""
        given = [_i8(one) if isinstance(one, int) else one for one in operands]
        form = ir.FunctionType(_nothing, [one.type for one in given])
        self.builder.call(
            cgutils.get_or_insert_function(self.builder.module, form, f"llvm.x86.{name}"), given
        )


@intrinsic  # type: ignore[untyped-decorator]
def _configure(context: Any, shapes: Any) -> Any:
    """Load the shapes of tiles, (64,) uint8 as the processor reads them; they are this thread's own."""

    def generate(*given: Any) -> Any:
        call = _Call(*given)
        call.tile("ldtilecfg", call.place(0, _index(0)))
        return call.context.get_dummy_value()

    return numba.types.void(shapes), generate


@intrinsic  # type: ignore[untyped-decorator]
def _release(context: Any) -> Any:
    """Leave the unit as it was: threads are switched faster, and nobody meets our shapes."""

    def generate(*given: Any) -> Any:
        call = _Call(*given)
        call.tile("tilerelease")
        return call.context.get_dummy_value()

    return numba.types.void(), generate


@intrinsic  # type: ignore[untyped-decorator]
def _split(context: Any, x: Any, x_at: Any, out: Any, out_at: Any, part: Any) -> Any:
    """Write 32 float32 numbers in three of bfloat16 each, to ``out_at``, and ``part`` words on each."""

    def generate(*given: Any) -> Any:
        call = _Call(*given)
        builder, (_, x_at, _, out_at, stride) = call.builder, call.arguments
        halves = ir.VectorType(_i16, LANES)

        def of_all(word: int) -> Any:
            return ir.Constant(_words, [word] * LANES)

        for half in range(2):
            start = call.place(0, builder.add(x_at, _index(half * LANES)))
            rest = builder.load(builder.bitcast(start, _vector.as_pointer()), align=4)
            for number in range(PARTS):
                bits = builder.bitcast(rest, _words)
                at = builder.add(out_at, builder.mul(stride, _index(number)))
                target = builder.bitcast(
                    call.beyond(call.place(2, at), half * 2 * LANES), halves.as_pointer()
                )
                builder.store(builder.trunc(builder.lshr(bits, of_all(16)), halves), target, align=2)
                upper = builder.and_(bits, of_all(0xFFFF0000))
                less = builder.fsub(rest, builder.bitcast(upper, _vector))
                # Of infinity nothing is left; the difference would be no number.
                size = builder.and_(upper, of_all(0x7FFF0000))
                infinite = builder.icmp_unsigned("==", size, of_all(0x7F800000))
                rest = builder.select(infinite, ir.Constant(_vector, [0.0] * LANES), less)
        return call.context.get_dummy_value()

    number = numba.types.int64
    return numba.types.void(x, number, out, number, number), generate


@intrinsic  # type: ignore[untyped-decorator]
def _widen(context: Any, w: Any, w_at: Any, w_next: Any, out: Any, out_at: Any) -> Any:
    """Write a panel's int8 weights of two inputs as pairs of bfloat16, two vectors of words.

    Args: the weights, the place of the first input's and of the second's; where to.
    """

    def generate(*given: Any) -> Any:
        call = _Call(*given)
        builder, integers = call.builder, ir.VectorType(_i8, LANES)
        for half in range(2):
            both = []
            for at in (call.arguments[1], call.arguments[2]):
                start = call.place(0, builder.add(at, _index(half * LANES)))
                loaded = builder.load(builder.bitcast(start, integers.as_pointer()), align=1)
                both.append(builder.bitcast(builder.sitofp(builder.sext(loaded, _words), _vector), _words))
            low = builder.lshr(both[0], ir.Constant(_words, [16] * LANES))
            target = call.place(3, builder.add(call.arguments[4], _index(half * LANES)))
            builder.store(
                builder.or_(low, both[1]), builder.bitcast(target, _words.as_pointer()), align=4
            )  # an integer's lower bits are 0
        return call.context.get_dummy_value()

    number = numba.types.int64
    return numba.types.void(w, number, number, out, number), generate


@intrinsic  # type: ignore[untyped-decorator]
def _finish(
    context: Any,
    sums: Any,
    at: Any,
    scale: Any,
    s: Any,
    bias: Any,
    b: Any,
    base: Any,
    a: Any,
    y: Any,
    to: Any,
) -> Any:
    """y = sums * scale + bias + base, for a panel of each, from the given places.

    Loops over slices would take as long as the product.
    """

    def generate(*given: Any) -> Any:
        call = _Call(*given)
        builder = call.builder
        for half in range(2):
            places = [
                builder.bitcast(
                    call.place(array, builder.add(call.arguments[array + 1], _index(half * LANES))),
                    _vector.as_pointer(),
                )
                for array in range(0, 10, 2)
            ]
            total, factor, *added = (builder.load(place, align=4) for place in places[:-1])
            total = builder.fmul(total, factor)
            for one in added:
                total = builder.fadd(total, one)
            builder.store(total, places[-1], align=4)
        return call.context.get_dummy_value()

    number = numba.types.int64
    one = (number,)
    return numba.types.void(sums, *one, scale, *one, bias, *one, base, *one, y, *one), generate


@intrinsic  # type: ignore[untyped-decorator]
def _clear(context: Any) -> Any:
    """Set all sums to 0."""

    def generate(*given: Any) -> Any:
        call = _Call(*given)
        for tile in range(2 * _TOGETHER):
            call.tile("tilezero", tile)
        return call.context.get_dummy_value()

    return numba.types.void(), generate


def _adding(groups: int) -> Callable[..., Any]:
    def generate(*given: Any) -> Any:
        call = _Call(*given)
        builder, (_, x_at, x_stride, tile, _, w_at, blocks) = call.builder, call.arguments
        x_start, w_start, word = call.place(0, x_at), call.place(4, w_at), _index(4)
        before = builder.block
        loop, done = builder.append_basic_block("blocks"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed(">", blocks, _index(0)), loop, done)
        builder.position_at_end(loop)
        block = builder.phi(_index)
        block.add_incoming(_index(0), before)
        x = call.beyond(x_start, builder.mul(builder.mul(block, x_stride), word))
        w = call.beyond(w_start, builder.mul(block, _index(2 * _BLOCK * 4)))
        for half in range(2):
            call.tile("tileloadd64", _WEIGHTS, call.beyond(w, half * LANES * 4), _index(2 * LANES * 4))
            for part in range(PARTS):
                for group in range(groups):
                    number = builder.mul(builder.mul(tile, word), _index(group * PARTS + part))
                    call.tile("tileloadd64", _ACTIVATIONS, call.beyond(x, number), _index(2 * INPUTS))
                    call.tile("tdpbf16ps", 2 * group + half, _ACTIVATIONS, _WEIGHTS)
        following = builder.add(block, _index(1))
        block.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, blocks), loop, done)
        builder.position_at_end(done)
        return call.context.get_dummy_value()

    def typed(context, x, x_at, x_stride, tile, w, w_at, blocks):  # type: ignore[no-untyped-def]
        number = numba.types.int64
        return numba.types.void(x, number, number, number, w, number, number), generate

    made: Callable[..., Any] = intrinsic(typed)
    return made


def _storing(groups: int) -> Callable[..., Any]:
    def generate(*given: Any) -> Any:
        call = _Call(*given)
        _, at, group_stride = call.arguments
        start, builder = call.place(0, at), call.builder
        for group in range(groups):
            first = call.beyond(start, builder.mul(group_stride, _index(4 * group)))
            for half in range(2):
                target = call.beyond(first, half * LANES * 4)
                call.tile("tilestored64", 2 * group + half, target, _index(PANEL * 4))
        return call.context.get_dummy_value()

    def typed(context, out, at, group_stride):  # type: ignore[no-untyped-def]
        number = numba.types.int64
        return numba.types.void(out, number, number), generate

    made: Callable[..., Any] = intrinsic(typed)
    return made


_add_1, _add_2, _add_3 = _adding(1), _adding(2), _adding(3)
_store_1, _store_2, _store_3 = _storing(1), _storing(2), _storing(3)


@kernel
def tile_product(x: Any, weight: Any, scale: Any, bias: Any, base: Any, y: Any, first: int, end: int) -> None:
    """y = scale * (x weight^T) + bias + base, for the outputs of the panels from ``first`` to ``end``.

    Only where :func:`amx_problem` is None; elsewhere the process ends. Arguments are those of
    :func:`lram.agents.backbones.kernels.narrow.narrow_product`.
    """
    tokens, inputs = x.shape
    outputs = y.shape[1]
    flat = x.ravel()
    panel = len(weight) // ((outputs + PANEL - 1) // PANEL)
    blocks, whole = (inputs + INPUTS - 1) // INPUTS, inputs // INPUTS
    groups = (tokens + TOKENS - 1) // TOKENS
    rows = (tokens + groups - 1) // groups  # of a tile: groups of like size have the least padding
    integers = weight.itemsize == 1
    at_once = min(groups, _AT_ONCE)

    # Four regions of one array, each at a multiple of 64 bytes: what crosses lines takes twice as long.
    tile = rows * INPUTS // 2
    split_size, sums_size = at_once * PARTS * blocks * tile, _TOGETHER * rows * PANEL
    widened_size = (blocks if integers else 1) * 2 * _BLOCK
    memory = np.empty(split_size + sums_size + widened_size + INPUTS + 16, np.float32)
    split = -(memory.ctypes.data // 4) % 16
    sums = split + split_size
    widened = sums + sums_size
    tail = widened + widened_size
    memory[tail : tail + INPUTS] = 0
    words = memory.view(np.uint32)

    ones, zeros = np.ones(PANEL, np.float32), np.zeros(PANEL, np.float32)
    factors, addends = scale if len(scale) else ones, bias if len(bias) else zeros
    added, target_y = base.ravel() if len(base) else zeros, y.ravel()
    shapes = np.zeros(64, np.uint8)
    shapes[0] = 1
    for t in range(8):
        shapes[16 + 2 * t] = 64  # bytes of a row
        shapes[48 + t] = TOKENS if t == _WEIGHTS else rows
    _configure(shapes)
    for chunk in range(0, groups, _AT_ONCE):
        here = min(_AT_ONCE, groups - chunk)
        stride = here * PARTS * tile  # of a block
        for row in range(here * rows):
            # Beyond the last token its numbers are taken once more.
            token = min(chunk * rows + row, tokens - 1)
            at = split + (row // rows) * PARTS * tile + (row % rows) * (INPUTS // 2)
            for block in range(whole):
                _split(flat, token * inputs + block * INPUTS, words, at + block * stride, tile)
            if whole < blocks:
                for k in range(inputs - whole * INPUTS):
                    memory[tail + k] = flat[token * inputs + whole * INPUTS + k]
                _split(memory, tail, words, at + whole * stride, tile)
        for number in range(first, end):
            from_weights = 0 if integers else whole
            if integers or whole < blocks:
                for pair in range(from_weights * (INPUTS // 2), blocks * (INPUTS // 2)):
                    target = widened + (pair - from_weights * (INPUTS // 2)) * PANEL
                    if integers and 2 * pair + 1 < inputs:
                        place = number * panel + 2 * pair * PANEL
                        _widen(weight, place, place + PANEL, words, target)
                    else:
                        _put_last(weight, number * panel, pair, inputs, words, target)
            for group in range(0, here, _TOGETHER):
                taken = min(_TOGETHER, here - group)
                at = split + group * PARTS * tile
                rest = at + from_weights * stride
                in_weights = number * panel
                _clear()
                if taken == 3:
                    _add_3(words, at, stride, tile, weight, in_weights, from_weights)
                    _add_3(words, rest, stride, tile, words, widened, blocks - from_weights)
                    _store_3(memory, sums, rows * PANEL)
                elif taken == 2:
                    _add_2(words, at, stride, tile, weight, in_weights, from_weights)
                    _add_2(words, rest, stride, tile, words, widened, blocks - from_weights)
                    _store_2(memory, sums, rows * PANEL)
                else:
                    _add_1(words, at, stride, tile, weight, in_weights, from_weights)
                    _add_1(words, rest, stride, tile, words, widened, blocks - from_weights)
                    _store_1(memory, sums, rows * PANEL)
                begin = (chunk + group) * rows
                columns = min(outputs - number * PANEL, PANEL)
                column = number * PANEL
                for row in range(min(taken * rows, tokens - begin)):
                    at = sums + row * PANEL
                    if columns < PANEL:
                        finish(memory[at : at + columns], begin + row, column, scale, bias, base, y)
                        continue
                    place = (begin + row) * outputs + column
                    s_at, b_at = column if len(scale) else 0, column if len(bias) else 0
                    a_at = place if len(base) else 0
                    _finish(memory, at, factors, s_at, addends, b_at, added, a_at, target_y, place)
    _release()


@inner_kernel
def _put_last(weight: Any, panel: int, pair: int, inputs: int, words: Any, target: int) -> None:
    """Write a pair of inputs of which one or both may not be there, as :func:`_widen` does; these are 0."""
    for column in range(PANEL):
        word = np.uint32(0)
        if weight.itemsize == 1:
            if 2 * pair < inputs:
                value = np.float32(weight[panel + 2 * pair * PANEL + column])
                word = np.uint32(_bits(value)) >> np.uint32(16)
        elif 2 * pair < inputs:
            word = np.uint32(weight[panel + pair * PANEL + column])
        words[target + column] = word


@intrinsic  # type: ignore[untyped-decorator]
def _bits(context: Any, value: Any) -> Any:
    """Return the bits of a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _i32)

    return numba.types.uint32(numba.types.float32), generate

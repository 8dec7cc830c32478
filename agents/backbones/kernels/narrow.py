"""Matrix products of float32 numbers with weights that are kept in bfloat16 or int8.

At few tokens a product takes as long as its weights take to come from memory; so they come in half or a
quarter of the bytes, and are widened in the processor's registers: a bfloat16 number is the upper half of a
float32 one, an int8 one is converted and its output's scale multiplied in once, at the end. Activations and
sums are float32. The weights lie in panels (:mod:`lram.agents.backbones.narrow_weights`), each two vectors of
outputs wide, those in bfloat16 in pairs of inputs; a tile of some tokens by one or two panels stays in
registers while the inputs are passed.

Every output is summed in the order of the inputs, whatever the tile: its bits depend neither on the number
of tokens nor on which panels are computed together. Many tokens are multiplied elsewhere where there is a
matrix unit (:mod:`lram.agents.backbones.kernels.amx`), with other last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

from lram.agents.backbones.kernels.compiler import elementary, kernel
from lram.agents.backbones.kernels.tiles import LANES, broadcast

PANEL = 2 * LANES
"""Outputs of a panel."""

# Few tokens wait for memory: so many bytes ahead is asked for it (Ice Lake core, 3 tokens: 0.91 of the time
# of 0). Of many, the sums fill the registers; there the inputs' loop is not unrolled, either.
_AHEAD = 1024
_FEW = 6

_i8, _i32, _index, _float = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_vector, _words = ir.VectorType(_float, LANES), ir.VectorType(_i32, LANES)


def _of_all(word: int) -> Any:
    return ir.Constant(_words, [word] * LANES)


class _Tile:
    """Builds the instructions of one function: some tokens times one or two panels."""

    def __init__(self, call: tuple[Any, ...], *, tokens: int, panels: int) -> None:
        context, builder, signature, arguments = call
        self.builder, self.kind = builder, signature.args[3].dtype
        self.prefetching = tokens <= _FEW
        # With sums of more than four tokens there are no registers for the activations of a pair.
        self.step = 2 if tokens <= (_FEW if self.kind == numba.types.int8 else 4) else 1

        def place(array: int, at: Any) -> Any:
            made = arrayobj.make_array(signature.args[array])(context, builder, arguments[array])
            return builder.gep(made.data, [at])

        _, x_at, x_stride, _, w_at, w_stride, self.inputs, _, out_at, out_stride = arguments
        self.x = [place(0, builder.add(x_at, builder.mul(x_stride, _index(t)))) for t in range(tokens)]
        self.w = [place(3, builder.add(w_at, builder.mul(w_stride, _index(p)))) for p in range(panels)]
        self.out = [place(7, builder.add(out_at, builder.mul(out_stride, _index(t)))) for t in range(tokens)]
        form = ir.FunctionType(_vector, [_vector] * 3)
        self.multiply_add = cgutils.get_or_insert_function(builder.module, form, f"llvm.fma.v{LANES}f32")
        self.nothing = context.get_dummy_value()

    def build(self) -> Any:
        """Sum over all inputs, the last ones one by one, and write the sums."""
        builder, count = self.builder, len(self.x) * len(self.w) * 2
        whole = builder.and_(self.inputs, _index(-self.step))
        sums = [ir.Constant(_vector, [0.0] * LANES)] * count
        first, sums = self._over(_index(0), whole, self.step, sums)
        if self.step > 1:
            _, sums = self._over(first, self.inputs, 1, sums)
        each = count // len(self.out)
        for number, total in enumerate(sums):
            place = builder.gep(self.out[number // each], [_index(number % each * LANES)])
            builder.store(total, builder.bitcast(place, _vector.as_pointer()), align=4)
        return self.nothing

    def _over(self, first: Any, end: Any, step: int, start: list[Any]) -> tuple[Any, list[Any]]:
        """Add the products of inputs from ``first`` to ``end``; return where that stopped, and the sums."""
        builder, before = self.builder, self.builder.block
        ask, loop, done = (builder.append_basic_block(name) for name in ("ask", "inputs", "done"))
        builder.branch(ask)
        builder.position_at_end(ask)
        place = builder.phi(_index)
        place.add_incoming(first, before)
        sums = [builder.phi(_vector) for _ in start]
        for total, value in zip(sums, start, strict=True):
            total.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", place, end), loop, done)
        builder.position_at_end(loop)
        new = list(sums)
        for more, weights in enumerate(self._widened(place, step)):
            new = self._add(builder.add(place, _index(more)), weights, new)
        place.add_incoming(builder.add(place, _index(step)), loop)
        for total, value in zip(sums, new, strict=True):
            total.add_incoming(value, loop)
        builder.branch(ask)
        builder.position_at_end(done)
        return place, sums

    def _add(self, place: Any, weights: list[Any], sums: list[Any]) -> list[Any]:
        """Return ``sums`` plus what one input contributes."""
        builder = self.builder
        new = []
        for token, x in enumerate(self.x):
            factor = broadcast(builder, builder.load(builder.gep(x, [place])), _vector)
            own = sums[token * len(weights) : (token + 1) * len(weights)]
            new += [
                builder.call(self.multiply_add, [factor, weight, total])
                for weight, total in zip(weights, own, strict=True)
            ]
        return new

    def _widened(self, place: Any, count: int) -> list[list[Any]]:
        """Return, for each of one or two inputs from ``place``, the panels' vectors of weights.

        Of two, ``place`` is even.
        """
        builder = self.builder
        if self.kind != numba.types.uint32:
            return [self._integers(builder.add(place, _index(more))) for more in range(count)]
        pairs = [words for panel in self.w for words in self._pairs(panel, place)]
        if count == 1:  # of a pair, which takes a shift that is not known here
            bits = builder.and_(builder.xor(builder.trunc(place, _i32), _i32(1)), _i32(1))
            shift = broadcast(builder, builder.shl(bits, _i32(4)), _words)
            pairs = [builder.shl(words, shift) for words in pairs]
            return [[self._upper(words) for words in pairs]]
        low = [builder.bitcast(builder.shl(words, _of_all(16)), _vector) for words in pairs]
        return [low, [self._upper(words) for words in pairs]]

    def _pairs(self, panel: Any, place: Any) -> list[Any]:
        """Return the two vectors of a panel's words that hold an input's weights."""
        builder, words = self.builder, []
        start = builder.gep(panel, [builder.mul(builder.and_(place, _index(-2)), _index(LANES))])
        for half in range(2):
            where = builder.gep(start, [_index(half * LANES)])
            self._ask_for(where)
            words.append(builder.load(builder.bitcast(where, _words.as_pointer()), align=4))
        return words

    def _upper(self, words: Any) -> Any:
        return self.builder.bitcast(self.builder.and_(words, _of_all(0xFFFF0000)), _vector)

    def _integers(self, place: Any) -> list[Any]:
        builder, integers = self.builder, ir.VectorType(_i8, LANES)
        widened = []
        for panel in self.w:
            start = builder.gep(panel, [builder.mul(place, _index(PANEL))])
            self._ask_for(start)
            for half in range(2):
                where = builder.bitcast(builder.gep(start, [_index(half * LANES)]), integers.as_pointer())
                widened.append(builder.sitofp(builder.sext(builder.load(where, align=1), _words), _vector))
        return widened

    def _ask_for(self, start: Any) -> None:
        if not self.prefetching:
            return
        builder, pointer = self.builder, _i8.as_pointer()
        form = ir.FunctionType(ir.VoidType(), [pointer, _i32, _i32, _i32])
        prefetch = cgutils.get_or_insert_function(builder.module, form, "llvm.prefetch.p0")
        ahead = builder.gep(builder.bitcast(start, pointer), [_index(_AHEAD)])
        reading, keep, data = _i32(0), _i32(3), _i32(1)
        builder.call(prefetch, [ahead, reading, keep, data])


def _tile(tokens: int, panels: int) -> Callable[..., Any]:
    def build(*call: Any) -> Any:
        return _Tile(call, tokens=tokens, panels=panels).build()

    def typed(  # type: ignore[no-untyped-def]
        context, x, x_at, x_stride, w, w_at, w_stride, inputs, out, out_at, out_stride
    ):
        number = numba.types.int64
        places = (number, number)
        return numba.types.void(x, *places, w, *places, number, out, *places), build

    made: Callable[..., Any] = intrinsic(typed)
    return made


# AVX-512 has 32 registers for sums, others 16: there three tokens of two panels would not stay in them (Zen 3
# core, 3 tokens of 512 inputs: 43 Gflop/s in pairs of panels, 65 one by one).
_MOST, _MANY = (12, 8) if LANES == 16 else (6, 4)
_AT_THREE = 2 if LANES == 16 else 1
"""Panels of a tile of three tokens."""
_tile_most, _tile_many = _tile(_MOST, 1), _tile(_MANY, 1)
_tile_3, _pair_2, _pair_1 = _tile(3, _AT_THREE), _tile(2, 2), _tile(1, 2)
_pair_4 = _tile(4, 2) if LANES == 16 else _pair_2


@elementary
def finish(own: Any, token: int, first: int, scale: Any, bias: Any, base: Any, y: Any) -> None:
    """Write to y, from output ``first`` on, a token's sums times ``scale`` plus ``bias`` and ``base``.

    The sums are changed. What has no number is 1, or 0.
    """
    columns = len(own)
    out = y[token, first : first + columns]
    if len(scale):
        factors = scale[first : first + columns]
        for j in range(columns):
            own[j] *= factors[j]
    if len(bias):
        added = bias[first : first + columns]
        for j in range(columns):
            own[j] += added[j]
    if len(base):
        added = base[token, first : first + columns]
        for j in range(columns):
            out[j] = own[j] + added[j]
    else:
        for j in range(columns):
            out[j] = own[j]


@kernel
def narrow_product(
    x: Any, weight: Any, scale: Any, bias: Any, base: Any, y: Any, first: int, end: int
) -> None:
    """y = scale * (x weight^T) + bias + base, for the outputs of the panels from ``first`` to ``end``.

    Args:
        x: (M, K) float32.
        weight: Panels, flat: uint32 of two bfloat16 each, or int8.
        scale, bias: (N,) float32, or none of a number: they are 1, or 0.
        base: (M, N) float32, or of no row: it is 0.
        y: (M, N) float32.
        first, end: Panels of the outputs.
    """
    tokens, inputs = x.shape
    outputs = y.shape[1]
    flat = x.ravel()
    panel = len(weight) // ((outputs + PANEL - 1) // PANEL)
    sums = np.empty(_MOST * 2 * PANEL, np.float32)
    at = first
    while at < end:
        two = at + 1 < end
        here = at * panel
        # Where there is no second panel, the first is computed twice.
        beside = panel if two else 0
        columns = min(outputs - at * PANEL, 2 * PANEL if two else PANEL)
        token = 0
        while token < tokens:
            left, place = tokens - token, token * inputs
            if left >= _MANY:
                taken = _MOST if left >= _MOST else _MANY
                for part in range(2 if two else 1):
                    where = (here + part * panel, panel, inputs, sums, part * PANEL, 2 * PANEL)
                    if taken == _MOST:
                        _tile_most(flat, place, inputs, weight, *where)
                    else:
                        _tile_many(flat, place, inputs, weight, *where)
            elif left >= 4 and _MANY > 4:
                taken = 4
                _pair_4(flat, place, inputs, weight, here, beside, inputs, sums, 0, 2 * PANEL)
            elif left >= 3:
                taken = 3
                for part in range(2 if two and _AT_THREE == 1 else 1):
                    at_part = here + part * panel
                    _tile_3(
                        flat, place, inputs, weight, at_part, beside, inputs, sums, part * PANEL, 2 * PANEL
                    )
            elif left == 2:
                taken = 2
                _pair_2(flat, place, inputs, weight, here, beside, inputs, sums, 0, 2 * PANEL)
            else:
                taken = 1
                _pair_1(flat, place, inputs, weight, here, beside, inputs, sums, 0, 2 * PANEL)
            for t in range(taken):
                own = sums[t * 2 * PANEL : t * 2 * PANEL + columns]
                finish(own, token + t, at * PANEL, scale, bias, base, y)
            token += taken
        at += 2 if two else 1

"""What kernels are compiled to: one code whatever slices a mask has, which calls no other, and no message."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from lram.agents.backbones.contract import Backbone
from lram.agents.backbones.stepping import make_stepper
from lram.agents.model.network import build_model
from lram.agents.model.presets import parse_preset

pytest.importorskip("numba", reason="kernels need numba")

from numba.core.dispatcher import Dispatcher

from lram.agents.backbones.kernels.compiler import _KernelCompiler


def kernels() -> Iterator[Any]:
    """Yield what numba has compiled here, or read, of our own kernels."""
    for name, module in sorted(sys.modules.items()):
        if name.startswith("lram.agents.backbones."):
            for value in vars(module).values():
                if isinstance(value, Dispatcher):
                    yield value


def compiled() -> set[tuple[str, str]]:
    return {(kernel.__name__, str(signature)) for kernel in kernels() for signature in kernel.signatures}


def backbone_of(preset: str) -> Backbone:
    return build_model(parse_preset(preset), 0).backbone


@pytest.mark.parametrize("preset", ["xlstm[7:1]-1M", "mamba-1M", "transformer[ring]-1M", "griffin-1M"])
@torch.inference_mode()
def test_a_part_of_a_mask_is_read_by_the_same_code(preset: str) -> None:
    backbone = backbone_of(preset)
    step = make_stepper(backbone, "fused", rows=3).call
    x, valid = torch.ones(3, 3, parse_preset(preset).width), torch.ones(3, 9, dtype=torch.bool)
    step(x, backbone.initial_state(3), valid[:, :3].clone())
    before = compiled()
    assert before
    step(x, backbone.initial_state(3), valid[:, 3:6])
    step(x[:, :1], backbone.initial_state(3), valid[:, 3:4])
    assert compiled() == before


def open_functions(content: bytes) -> list[bytes]:
    """Return the functions of ours that an object file defines for whoever has none of that name yet."""
    elf = content[content.index(b"\x7fELF") :]
    table, size, count = *struct.unpack_from("<Q", elf, 0x28), *struct.unpack_from("<2H", elf, 0x3A)
    sections = [struct.unpack_from("<2I4Q2I2Q", elf, table + size * number) for number in range(count)]
    (symbols,) = [section for section in sections if section[1] == 2]
    names = sections[symbols[6]][4]
    weak_function, found = 2 << 4 | 2, []
    for at in range(symbols[4], symbols[4] + symbols[5], 24):
        name, kind, _, section = struct.unpack_from("<I2BH", elf, at)
        if kind == weak_function and section:
            found.append(elf[names + name : elf.index(b"\0", names + name)])
    return [name for name in found if b"lram" in name]


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset", ["xlstm[1:1]-1M", "transformer[full]-1M", "griffin-1M", "gated_deltanet-1M"]
)
def test_code_calls_no_other_kernels_and_holds_no_message_on_unequal_shapes(preset: str) -> None:
    """The first would round otherwise where it is compiled than where it is read from disk; the second
    ``target[:] = source`` brings in, with seconds of compiling: kernels say ``put``.
    """
    backbone = backbone_of(preset)
    x = torch.ones(2, 3, parse_preset(preset).width)
    make_stepper(backbone, "fused", rows=2).call(x, backbone.initial_state(2), None)
    backbone(x).sum().backward()
    found = {
        kernel.__name__: kernel._cache.file(types, kernel.targetctx.codegen())
        for kernel in kernels()
        if hasattr(kernel._cache, "file")
        for types in kernel.overloads
    }
    assert len(found) > 2
    assert not {name for name, file in found.items() if b"shape_context" in file.read_bytes()}
    called = {kernel.__name__ for kernel in kernels() if kernel._compiler.pipeline_class is _KernelCompiler}
    for name in called & found.keys():
        assert not open_functions(found[name].read_bytes()), name
    assert called & found.keys()

"""Compile the Triton kernels for GPUs that need not be there, in a process without the interpreter."""

from __future__ import annotations

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lram.agents.backbones.gpu import matrix_memory, mlstm, vector_memory

NUMBERS = {"heads", "key_heads", "tokens", "width", "M", "N", "channels"}
KERNELS = (
    (mlstm._read, {"T": 16, "PART": 32}),
    (
        matrix_memory._advance,
        {"ONE_DECAY": False, "CORRECTED": True, "MASKED": True, "WIDTH": 64, "COLUMNS": 32},
    ),
    (vector_memory._decay, {"MASKED": True, "CHANNELS": 128}),
)


def type_of(name: str, constants: dict[str, int]) -> str:
    if name in constants:
        return "constexpr"
    if name in NUMBERS or name.endswith(("_row", "_head", "_token", "_place")):
        return "i32"
    return "*i8" if name == "there" else "*fp32"


for kernel, constants in KERNELS:
    types = {name: type_of(name, constants) for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    for capability in (80, 90):
        made = triton.compile(ASTSource(kernel, types, places), target=GPUTarget("cuda", capability, 32))
        print(kernel.fn.__name__, capability, len(made.asm["cubin"]))

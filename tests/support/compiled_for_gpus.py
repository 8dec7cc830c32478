"""Compile the Triton kernels for GPUs that need not be there, in a process without the interpreter."""

from __future__ import annotations

from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lram.agents.backbones.gpu import (
    WIDEST_HEAD,
    attention,
    convolution,
    matrix_memory,
    mlstm,
    mlstm_gradients,
    mlstm_sequence,
    selective_scan,
    selective_scan_sequence,
    slstm,
    slstm_sequence,
    vector_memory,
)

NUMBERS = {
    *("heads", "key_heads", "tokens", "width", "M", "N", "channels", "rows", "head_width", "token", "size"),
    *("group", "slots", "band", "chunk"),
}
OTHERS = {"there": "*i8", "scale": "fp32", "position": "*i64", "count": "*i64"}
SEQUENCE = {"T": mlstm_sequence.TILE, "PART": mlstm_sequence.PART, "COLUMNS": mlstm_sequence.COLUMNS}
SCAN = {
    "EVERY": selective_scan_sequence.EVERY,
    "CHANNELS": selective_scan_sequence.NUMBERS // 16,
    "SIZE": 16,
}
SCALAR = {"ROWS": slstm_sequence.ROWS, "CHANNELS": slstm_sequence.CHANNELS, "PART": slstm_sequence.PART}
KERNELS = (
    (mlstm._read, {"T": 16, "PART": 32}),
    (
        matrix_memory._advance,
        {"ONE_DECAY": False, "CORRECTED": True, "MASKED": True, "WIDTH": 64, "COLUMNS": 32},
    ),
    (vector_memory._decay, {"MASKED": True, "CHANNELS": 128}),
    (
        convolution._convolve,
        {"KEPT": 3, "SLOTS": 4, "BIASED": True, "SILU": True, "MASKED": True, "CHANNELS": 128},
    ),
    (slstm._read_token, {"MASKED": True, "ROWS": 16, "CHANNELS": 16, "PART": 64}),
    (selective_scan._scan, {"MASKED": True, "CHANNELS": 32, "SIZE": 16}),
    (
        attention._attend,
        {
            "BANDED": True,
            "PARTS": 4,
            "PRECISION": "ieee",
            "T": 16,
            "WIDTH": WIDEST_HEAD,
            "SLOTS": attention.slots_at_once(WIDEST_HEAD),
        },
    ),
    (attention._combine, {"PARTS": 4, "WIDTH": 64}),
    *(
        (kernel, {"PRECISION": "tf32", **SEQUENCE})
        for kernel in (
            mlstm_sequence._states,
            mlstm_sequence._read_tiles,
            mlstm_gradients.state_gradients,
            mlstm_gradients.key_gradients,
            mlstm_gradients.query_gradients,
        )
    ),
    # In float32 one: the compiler takes minutes for all.
    (mlstm_sequence._read_tiles, {"PRECISION": "ieee", **SEQUENCE}),
    (selective_scan_sequence._read, {"KEEP": True, **SCAN}),
    (selective_scan_sequence._gradients, SCAN),
    (slstm_sequence._read_all, {"PRECISION": "tf32", **SCALAR}),
    (slstm_sequence._all_gradients, {"PRECISION": "tf32", **SCALAR}),
)


BFLOAT16 = {"weight", "bias", "x", "z", "dt", "B", "C", "q", "k", "gates", "matrix"}
"""Of the kernels that take the types of the weights."""


def type_of(name: str, constants: dict[str, Any], bfloat16: bool) -> str:
    if name in constants:
        return "constexpr"
    if name in NUMBERS or name.endswith(("_row", "_head", "_token", "_place", "_slot")):
        return "i32"
    return OTHERS.get(name, "*bf16" if bfloat16 and name in BFLOAT16 else "*fp32")


for kernel, constants in KERNELS:
    bfloat16 = kernel not in {mlstm._read, matrix_memory._advance, vector_memory._decay}
    bfloat16 = bfloat16 and (kernel is attention._attend or constants.get("PRECISION") != "ieee")
    types = {name: type_of(name, constants, bfloat16) for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    stages = {"num_stages": attention.STAGES} if kernel is attention._attend else {}
    if "PRECISION" in constants and not stages:
        stages = {"num_stages": mlstm_sequence.STAGES}
    for capability in (80, 90):
        target = GPUTarget("cuda", capability, 32)
        made = triton.compile(ASTSource(kernel, types, places), target=target, options=stages)
        print(kernel.fn.__name__, capability, len(made.asm["cubin"]), made.metadata.shared)

"""Write a small recurrent ONNX network, its weights once within the file and once beside it.

Run in an environment that has onnx, from the root of the repository::

    python tests/benchmarks/record_onnx.py tests/data/exported

``h_new = tanh(obs W + h U)``, ``mean = h_new V``; six observations, five numbers of memory, two actions.
``weights.npz`` holds W, U and V.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def record(folder: Path) -> None:
    """Write ``recurrent.onnx``, ``beside.onnx`` with ``beside.onnx.data``, and ``weights.npz``."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in {"W": (6, 5), "U": (5, 5), "V": (5, 2)}.items()
    }
    np.savez(folder / "weights.npz", **weights)
    nodes = [
        helper.make_node("MatMul", ["obs", "W"], ["a"]),
        helper.make_node("MatMul", ["h", "U"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Tanh", ["c"], ["h_new"]),
        helper.make_node("MatMul", ["h_new", "V"], ["mean"]),
    ]

    def values(name: str, size: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["lanes", size])

    graph = helper.make_graph(
        nodes,
        "recurrent",
        [values("h", 5), values("obs", 6)],
        [values("h_new", 5), values("mean", 2)],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save_model(model, folder / "recurrent.onnx")
    onnx.save_model(
        model,
        folder / "beside.onnx",
        save_as_external_data=True,
        location="beside.onnx.data",
        size_threshold=0,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    record(parser.parse_args().folder)

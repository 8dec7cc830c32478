"""Policies by the scheme ``onnx:FILE``: an ONNX network with a sidecar, run by onnxruntime (extra ``onnx``).

Weights that lie in files of their own beside the network (``FILE.data``, ``FILE_data``) are read with it. It
computes on the processor, with one thread.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from lram.agents.adapters.exported.network import Network, agent_of
from lram.agents.adapters.exported.sidecar import Sidecar, read_sidecar, sidecar_of
from lram.agents.adapters.files import AdapterFiles, beside, named_in, split_file
from lram.agents.api import Agent, AgentError
from lram.agents.compute import Compute
from lram.agents.shown import shown

__all__ = ["files", "load"]


_ADVICE = "give an .onnx file"


def load(where: str, seed: int, compute: Compute) -> Agent:
    """Return the agent of ``onnx:WHERE``.

    Args:
        where: The file; its sidecar is ``WHERE.toml``.
        seed: Of no use: draws begin with an episode's seed.
        compute: Must be the processor, in float32.

    Raises:
        AgentError: onnxruntime is missing, the network or its sidecar cannot be read, or they do not fit; one
            sentence.
    """
    file, arguments = split_file(where, _ADVICE)
    if arguments:
        raise AgentError(
            f"{file} takes no arguments; its sidecar {file.name}.toml holds what there is to say"
        )
    if compute.device != "cpu":
        raise AgentError(f"{file} is run on the processor; leave --device {compute.device} out")
    sidecar = read_sidecar(file)
    try:
        runtime: Any = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise AgentError(
            f"{file} needs onnxruntime, which cannot be imported ({shown(str(error), 160)}): "
            "pip install 'lram-bench[onnx]'"
        ) from error
    weights = [other for other in _weights(file) if other.is_file()]
    try:
        session = _session(runtime, file, weights)
    except Exception as error:  # whatever onnxruntime raises for files that are none
        raise AgentError(f"{file} cannot be loaded ({_line(error)}); export it again") from None
    network = _network(session, file, sidecar)
    return agent_of(file, sidecar, network, "ONNX", compute, more_files=weights)


def files(where: str) -> AdapterFiles:
    """Return the files of ``onnx:WHERE``; AgentError where they are not there."""
    file, arguments = split_file(where, _ADVICE)
    return beside(named_in(where, arguments), sidecar_of(file), *_weights(file))


def _weights(file: Path) -> list[Path]:
    return [file.with_name(file.name + end) for end in (".data", "_data")]


def _session(runtime: Any, file: Path, weights: list[Path]) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is raised
    if weights:
        contents = [other.read_bytes() for other in weights]
        names = [other.name for other in weights]
        options.add_external_initializers_from_files_in_memory(names, contents, list(map(len, contents)))
    # From memory, no file that the digest does not cover is read.
    return runtime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])


def _network(session: Any, file: Path, sidecar: Sidecar) -> Network:
    inputs = [one.name for one in session.get_inputs()]
    outputs = [one.name for one in session.get_outputs()]
    reads, gives = ([table.input for table in sidecar.memory], [table.output for table in sidecar.memory])
    observation = sidecar.names.observation or next((one for one in inputs if one not in reads), "")
    answer = sidecar.names.answer or next((one for one in outputs if one not in gives), "")
    asked, given = [observation, *reads], [answer, *gives]
    if sorted(asked) != sorted(inputs) or not set(given) <= set(outputs) or len(set(given)) != len(given):
        raise AgentError(
            f"{file} has the inputs {', '.join(map(shown, inputs))} and the outputs "
            f"{', '.join(map(shown, outputs))}; name each input and what is used of the outputs in "
            f"{file.name}.toml ([names], and input and output of each [[memory]])"
        )

    def network(arrays: list[Any]) -> list[Any]:
        try:
            found: list[Any] = session.run(given, dict(zip(asked, arrays, strict=True)))
        except Exception as error:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise AgentError(
                f"{file} fails on {shapes} ({_line(error)}); compare {file.name}.toml with the network"
            ) from None
        return found

    return network


def _line(error: Exception) -> str:
    return shown(" ".join(str(error).split()) or type(error).__name__, 160)

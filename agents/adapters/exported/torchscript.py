"""Policies by the scheme ``torchscript:FILE``: a TorchScript program with a sidecar.

It is called with observations (n, ...) and then its memories, and returns an answer, or a tuple of an answer
and the new memories. A TorchScript file is a program, and loading it is trusting it.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch

from lram.agents.adapters.exported.network import agent_of
from lram.agents.adapters.exported.sidecar import read_sidecar, sidecar_of
from lram.agents.adapters.files import AdapterFiles, beside, named_in, split_file
from lram.agents.api import Agent, AgentError
from lram.agents.compute import Compute
from lram.agents.shown import shown

__all__ = ["files", "load"]

_ADVICE = "give a file that torch.jit.save wrote"


def load(where: str, seed: int, compute: Compute) -> Agent:
    """Return the agent of ``torchscript:WHERE``; one thread computes a pass.

    Args:
        where: The file; its sidecar is ``WHERE.toml``.
        seed: Of no use: draws begin with an episode's seed.
        compute: Device; float32 only.

    Raises:
        AgentError: The program or its sidecar cannot be read, or they do not fit; one sentence.
    """
    file, arguments = split_file(where, _ADVICE)
    if arguments:
        raise AgentError(
            f"{file} takes no arguments; its sidecar {file.name}.toml holds what there is to say"
        )
    sidecar = read_sidecar(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.export is newer
            module: Any = torch.jit.load(str(file), map_location=compute.device)  # type: ignore[no-untyped-call]
        module.eval()
    except Exception as error:  # whatever torch raises for damaged files, and for devices that are not there
        raise AgentError(
            f"{file} cannot be loaded on {compute.device} ({_line(error)}); give a file that torch.jit.save "
            "wrote"
        ) from None

    def network(arrays: list[Any]) -> list[Any]:
        threads = torch.get_num_threads()
        given = [torch.from_numpy(array).to(compute.device) for array in arrays]
        try:
            torch.set_num_threads(1)
            # Optimised after some calls, a program computes with another rounding than in its first ones.
            with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
                found = module(*given)
            answers = list(found) if isinstance(found, tuple | list) else [found]
            return [answer.cpu().numpy() for answer in answers]
        except Exception as error:
            shapes = ", ".join(str(tuple(one.shape)) for one in given)
            raise AgentError(
                f"{file} fails on {shapes} ({_line(error)}); compare {file.name}.toml with the program"
            ) from None
        finally:
            torch.set_num_threads(threads)

    parameters = sum(one.numel() for one in module.parameters())
    return agent_of(file, sidecar, network, "TorchScript", compute, parameters=parameters)


def files(where: str) -> AdapterFiles:
    """Return the files of ``torchscript:WHERE``; AgentError where they are not there."""
    file, arguments = split_file(where, _ADVICE)
    return beside(named_in(where, arguments), sidecar_of(file))


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if "Error" in line), lines[0] if lines else "")
    return shown(last or type(error).__name__, 160)

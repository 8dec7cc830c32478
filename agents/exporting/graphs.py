"""One decision as a file: a program of ``torch.export``, or ONNX made of it."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import torch

from lram.agents.api import AgentError
from lram.agents.exporting.decision import OneDecision
from lram.agents.shown import shown

Format = Literal["onnx", "torch-export"]
FORMATS: tuple[Format, ...] = get_args(Format)
FILES: dict[Format, str] = {"onnx": "policy.onnx", "torch-export": "policy.pt2"}
"""How the graph's file is called."""

_ONNX = ("onnx", "onnxscript", "onnxruntime")
_LARGEST = 1 << 30  # bytes of weights beside which an ONNX file keeps them in another: it ends at 2 GiB


def check_packages(to: Format) -> None:
    """Raise AgentError where a package that writes or tries ``to`` is missing."""
    for name in _ONNX if to == "onnx" else ():
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise AgentError(
                f"ONNX cannot be written, because {name} cannot be imported ({shown(str(error), 200)}); "
                "install it with pip install 'lram-bench[export]', or export to torch-export"
            ) from error


def write_graph(decision: OneDecision, to: Format, folder: Path) -> None:
    """Write the graph of ``decision`` into ``folder``, under its name in ``FILES``.

    Raises:
        AgentError: Its step cannot be made a graph, or that format has no such operation.
    """
    file = folder / FILES[to]
    names = [port.name for port in decision.inputs], [port.name for port in decision.outputs]
    with torch.no_grad(), _quiet():
        try:
            examples = tuple(port.example() for port in decision.inputs)
            program = torch.export.export(decision.eval(), examples, strict=False)
            if to == "torch-export":
                torch.export.save(program, file)
                return
            weights = sum(one.numel() * one.element_size() for one in decision.state_dict().values())
            torch.onnx.export(
                program,
                (),
                str(file),
                dynamo=True,
                input_names=names[0],
                output_names=names[1],
                external_data=weights > _LARGEST,
                verbose=False,
            )
        except (OSError, MemoryError):
            raise
        except Exception as error:
            words = str(error).strip().partition("\n")[0] or "it gives no reason"
            raise AgentError(
                f"the step of {decision.config.describe()} cannot be exported to {to} "
                f"({type(error).__name__}: {shown(words, 300)}); export to another format, or another kind "
                "of model"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what the exporters say of their own insides."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)

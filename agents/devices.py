"""Devices by name: ``cpu``, ``cuda``, ``cuda:1``; which there are, and several agents over several of them.

Imports no torch before a device is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lram.agents.errors import AgentError

if TYPE_CHECKING:
    import torch

NEEDED = "cpu, or cuda where 'lram doctor' shows a GPU"
"""What to give, where nothing is known of this machine yet."""

_LONGEST = 300  # characters of an error


def find_device(name: str) -> torch.device:
    """Return the device of this name, after a tensor was put there.

    Raises:
        AgentError: There is no such device, or it does not answer; the sentence tells what is there.
    """
    import torch

    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("a device without memory")
        torch.ones(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise AgentError(refusal(name, error)) from error
    return device


def refusal(name: str, error: BaseException | None = None) -> str:
    """Return one sentence on a device that cannot be used: what is there instead, or what it answers."""
    there = gpus()
    if name in ("cuda", *there) and there and error is not None:
        cause = " ".join(str(error).split())[:_LONGEST]
        return f"the device {name!r} is there and does not answer: {cause}; free it, or use cpu"
    choices = ["cpu", *(f"{gpu} ({model})" for gpu, model in there.items())]
    last = choices.pop()
    offer = f"{', '.join(choices)} or {last}" if choices else f"{last}: PyTorch finds no GPU here"
    return f"the device {name!r} cannot be used here; use {offer} ('lram doctor' tries what there is)"


def gpus() -> dict[str, str]:
    """Return the models of the GPUs that PyTorch can use, by name, such as ``{"cuda:0": "NVIDIA H100"}``."""
    import torch

    if not torch.cuda.is_available():
        return {}
    return {f"cuda:{index}": torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}


def gpu_model(device: str) -> str:
    """Return the model of the GPU that ``device`` (``cuda``, ``cuda:1``) names; empty where it names none."""
    return gpus().get("cuda:0" if device == "cuda" else device, "") if device.startswith("cuda") else ""


def split_devices(text: str) -> tuple[str, ...]:
    """Return the devices of a comma list, such as ``cuda:0,cuda:1``.

    Raises:
        AgentError: One of them has no name, or is there twice.
    """
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise AgentError(f"the devices {text!r} name none in one place; give for instance cuda:0,cuda:1")
    if len(set(names)) < len(names):
        raise AgentError(f"the devices {text!r} name one twice; several agents share a device by themselves")
    return names


def placed_in_turn(labels: Iterable[str], text: str) -> dict[str, str]:
    """Return the device of each agent by label: those of the comma list ``text`` in turn."""
    names = split_devices(text)
    return {label: names[number % len(names)] for number, label in enumerate(labels)}

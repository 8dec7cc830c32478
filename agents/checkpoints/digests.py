"""The digest of a model: what tells one model from another, in checkpoints, runs and reports.

It is a format: digests stand in records and cards, so it must never change. Imports no torch: a report is
made anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from lram.agents.api import AgentError
from lram.agents.model.config import ModelConfig, config_to_dict

_FLOATS = ("F64", "F32", "F16")  # of those that a checkpoint may have, what numpy knows


class Weights(NamedTuple):
    """One tensor of a model, as its digest reads it.

    Attributes:
        dtype: As PyTorch writes it, such as ``torch.float32``.
        shape: Its shape.
        content: Its bytes in row-major order, little-endian.
    """

    dtype: str
    shape: tuple[int, ...]
    content: bytes | memoryview


def digest_of_weights(
    config: ModelConfig,
    names: Iterable[str],
    weights: Callable[[str], Weights],
    target_returns: Mapping[str, float] | None = None,
) -> str:
    """Return the SHA-256 over configuration (without its name), weights and the returns asked for, as hex.

    Args:
        config: The model's.
        names: Of all its tensors, in any order.
        weights: Gives the tensor of a name; called once for each, so that one is held at a time.
        target_returns: The checkpoint's own, if any: who asks for another return is another agent.
    """
    digest = hashlib.sha256(msgspec.json.encode(config_to_dict(replace(config, name="")), order="sorted"))
    for name in sorted(names):
        one = weights(name)
        digest.update(f"{name} {one.dtype} {one.shape}".encode())
        digest.update(one.content)
    if target_returns:
        digest.update(msgspec.json.encode(dict(target_returns), order="sorted"))
    return digest.hexdigest()


def digest_of_file(file: Path, config: ModelConfig, target_returns: Mapping[str, float] | None = None) -> str:
    """Return the digest of the model that ``load_checkpoint`` makes of the weights in ``file``.

    Raises:
        AgentError: The file is missing or damaged, or holds values of a type that no training writes.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as found:

            def weights(name: str) -> Weights:
                if (kind := found.get_slice(name).get_dtype()) not in _FLOATS:
                    raise AgentError(f"{file} has values of the type {kind}, as no training writes")
                values = found.get_tensor(name).astype("<f4")  # models are loaded as float32
                return Weights("torch.float32", values.shape, values.tobytes())

            return digest_of_weights(config, found.keys(), weights, target_returns)
    except (SafetensorError, TypeError, OSError, ValueError, MemoryError) as error:
        raise AgentError(f"{file} is damaged or missing ({error})") from error

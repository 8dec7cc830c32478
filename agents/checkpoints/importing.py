"""Convert a checkpoint of the LRAM reference implementation, without running anything that it holds.

Read are Stable-Baselines3 archives (only ``policy.pth`` in them), files that ``torch.save`` wrote, and
safetensors. The content decides which it is, not the file's name. Pickles are read by ``torch.load``
with ``weights_only=True`` alone, which builds tensors and plain containers and calls nothing else.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from lram.agents.api import AgentError
from lram.agents.checkpoints.folder import save_checkpoint
from lram.agents.checkpoints.reference import (
    ReferenceOptions,
    bare_name,
    from_reference,
    kind_of,
    our_name,
    read_config,
    reader_of,
    their_name,
)
from lram.agents.checkpoints.untrusted import SAVE_AGAIN, damage_reported, load_plain, unpack
from lram.agents.model.config import ModelConfig, config_to_dict
from lram.agents.model.network import ActionModel, without_memory
from lram.agents.shown import few, shown
from lram.agents.sums import file_sum

POLICY = "policy.pth"
_MARKS = {"embed_ln.weight", "embed_state.weight"}
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_DEEPEST = 5


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """What an import found.

    Attributes:
        model: The model, on the CPU, in float32.
        config: Its configuration.
        read: Settings that the weights tell.
        assumed: Settings that the weights do not tell, each with its value and why.
        dropped: Tensors of the source that no action depends on, by the reference's names.
        source_sha256: Of the whole source file, as hexadecimal digits.
    """

    model: ActionModel
    config: ModelConfig
    read: Mapping[str, Any]
    assumed: Mapping[str, str]
    dropped: tuple[str, ...]
    source_sha256: str


def import_checkpoint(
    source: str | Path, output: str | Path, options: ReferenceOptions | None = None
) -> ImportedModel:
    """Write the reference checkpoint ``source`` as a checkpoint folder ``output``, marked as trained.

    Raises:
        AgentError: ``output`` exists, or ``source`` cannot be converted; one sentence, nothing written.
    """
    source, output, options = Path(source), Path(output), options or ReferenceOptions()
    if output.exists():
        raise AgentError(f"{output} exists and is kept; name another folder for the checkpoint")
    if not source.is_file():
        what = "is a folder, not a file" if source.is_dir() else "does not exist"
        raise AgentError(f"{source} {what}; give the reference's own file, such as its .zip")
    sha256 = file_sum(source)
    tensors = read_tensors(source)
    try:
        weights, config = convert(tensors, options)
    except AgentError as error:
        raise AgentError(f"{source}: {error}") from None
    with without_memory():
        model = ActionModel(config)
    model.load_state_dict(weights, strict=True, assign=True)
    kept = {their_name(name) for name in weights}
    assumed = _assumed(config, options)
    found = ImportedModel(
        model.eval(),
        config,
        _read(config, assumed),
        assumed,
        tuple(sorted(shown(bare_name(name)) for name in tensors if bare_name(name) not in kept)),
        sha256,
    )
    card = {
        "made_by": "lram import-checkpoint",
        "source": shown(source.name, 255),
        "source_sha256": sha256,
        "assumed": assumed,
        "dropped": list(found.dropped),
    }
    save_checkpoint(output, model, config, trained=True, card=card)
    return found


def convert(
    tensors: Mapping[str, Tensor], options: ReferenceOptions
) -> tuple[dict[str, Tensor], ModelConfig]:
    """Return weights under our names, in memory of their own, and the configuration they are of.

    Raises:
        AgentError: They are of no model that is known here, not complete, or not finite.
    """
    kind = kind_of(filter(None, map(our_name, tensors)))
    weights = from_reference(tensors, kind, actions_in_context=options.actions_in_context)
    config = read_config(weights, options)
    with without_memory():
        expected = {name: tuple(tensor.shape) for name, tensor in ActionModel(config).state_dict().items()}
    for problem, names in (
        (f"a {kind} of the reference has no tensor", sorted(weights.keys() - expected.keys())),
        ("the weights are not complete, they lack", sorted(expected.keys() - weights.keys())),
    ):
        if names:
            raise AgentError(f"{problem} {_listed([their_name(name) for name in names])}")
    for name, shape in expected.items():
        if tuple(weights[name].shape) != shape:
            raise AgentError(f"{their_name(name)} has the shape {tuple(weights[name].shape)}, not {shape}")
        if not bool(torch.isfinite(weights[name]).all()):
            raise AgentError(
                f"{their_name(name)} holds values that are no finite numbers; nothing is imported"
            )
        if name == "backbone.wpe.weight" and options.positions == "constant":
            weights[name] = weights[name][:1].expand(shape)
        weights[name] = weights[name].clone(memory_format=torch.contiguous_format)
    return weights, config


def read_tensors(source: Path) -> dict[str, Tensor]:
    """Return the state dict of the one action model in ``source``, under the names it has there.

    Raises:
        AgentError: The file is damaged, would need more than plain tensors, or holds no such model.
    """
    with source.open("rb") as file:
        start = file.read(9)
    if start[8:9] == b"{":
        return _checked(_read_safetensors(source), str(source), source.stat().st_size)
    if source.suffix == ".safetensors":
        raise AgentError(f"{source} is named .safetensors and is none; if torch.save wrote it, name it .pt")
    if start[:2] != b"PK":
        return _read_torch(source, str(source))
    with tempfile.TemporaryDirectory(prefix="lram-import-") as folder:
        policy = Path(folder) / POLICY
        with damage_reported(str(source)), zipfile.ZipFile(source) as archive:
            names = archive.namelist()
            if POLICY in names:
                unpack(archive, POLICY, policy, str(source))
        if policy.exists():
            return _read_torch(policy, f"{source} ({POLICY})")
    if any(Path(name).name == "data.pkl" for name in names):
        return _read_torch(source, str(source))
    raise AgentError(
        f"{source} is a zip without {POLICY} (it has {_listed(names)}); give the archive that the reference "
        "saved, or its state dict"
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with damage_reported(str(path)), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


def _read_torch(path: Path, label: str) -> dict[str, Tensor]:
    """Read a file of ``torch.save``, or refuse it; ``label`` is what messages call it."""
    return _checked(_state_dict(load_plain(path, label), label), label, path.stat().st_size)


def _state_dict(value: Any, label: str) -> dict[str, Tensor]:
    """Return the one state dict of an action model in what a file holds, however it is nested."""
    found: list[dict[str, Tensor]] = []
    level, seen = [value], set()
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for item in level:
            # A pickle may hold one dictionary many times, or inside itself.
            if isinstance(item, dict) and id(item) not in seen:
                seen.add(id(item))
                tensors = {k: v for k, v in item.items() if isinstance(k, str) and isinstance(v, Tensor)}
                found += [tensors] if tensors else []
                below += item.values()
        level = below
    models = [tensors for tensors in found if _MARKS & set(map(bare_name, tensors))]
    if len(models) == 1:
        return models[0]
    if models:
        raise AgentError(f"{label} holds {len(models)} action models; save the one that you mean alone")
    if not found:
        raise AgentError(f"{label} holds no state dict; {SAVE_AGAIN}")
    # Left to the check of the family, which names what is there.
    return max(found, key=len)


def _checked(tensors: dict[str, Tensor], label: str, file_size: int) -> dict[str, Tensor]:
    """Refuse other families, tensors without plain numbers, and sizes that the file cannot hold."""
    if not _MARKS & set(map(bare_name, tensors)):
        raise AgentError(
            f"{label} is of another agent family: an action model of the reference has "
            f"{' and '.join(sorted(_MARKS))}, this has {_listed(tensors)}"
        )
    used = {name: tensor for name, tensor in tensors.items() if our_name(name) is not None}
    for name, tensor in used.items():
        plain = tensor.dtype in _FLOATS and tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not plain or tensor.is_nested:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise AgentError(
                f"{label}: {shown(name)} ({kind}) is not a plain tensor of floating-point numbers"
            )
    # A tensor can repeat one number a billion times at no cost, until it is copied.
    if sum(tensor.numel() * tensor.element_size() for tensor in used.values()) > file_size:
        raise AgentError(f"{label} claims more numbers than a file of {file_size} bytes holds; {SAVE_AGAIN}")
    return {name: tensor.detach() for name, tensor in tensors.items()}


def _assumed(config: ModelConfig, options: ReferenceOptions) -> dict[str, str]:
    return {
        "actions_in_context": f"{'yes' if config.actions_in_context else 'no'} (--actions-in-context)",
        "decode": f"{config.decode} (--decode)",
        **reader_of(config.kind).assumed(config.backbone, options),
    }


def _read(config: ModelConfig, assumed: Mapping[str, str]) -> dict[str, Any]:
    settings = config_to_dict(config)
    settings |= settings.pop(config.kind)
    silent = {"name", "cache", *assumed}
    # Only a rank of None is there: the one that follows from the width.
    return {
        name: "width / 16" if value is None else value
        for name, value in settings.items()
        if name not in silent
    }


def _listed(names: Iterable[str]) -> str:
    return few(map(shown, names), 3) or "nothing"

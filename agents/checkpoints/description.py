"""``config.json`` of a checkpoint: the one reader of it, and of the card in it.

It imports no torch and makes no model, so that reports, listings and commands that need a checkpoint's card
read it as loading does. A card is whatever its maker wants to say: what is not as it should be in one tells
nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lram.agents.api import AgentError
from lram.agents.durable import read_regular
from lram.agents.places import placed
from lram.agents.shown import shown
from lram.agents.sums import check_sum, read_sums

FORMAT = "lram-checkpoint"
VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FILES = (CONFIG_FILE, WEIGHTS_FILE)
LARGEST_CONFIG = 64 << 20
"""Bytes of the largest ``config.json`` that is read, its card included."""

_FIELDS = {"format", "version", "trained", "model", "target_returns", "card"}


class CheckpointDescription(NamedTuple):
    """What a checkpoint says beside its weights.

    Attributes:
        trained: Whether the weights were trained.
        model: The model's configuration as it stands there, for
            :func:`lram.agents.model.config.config_from_dict`.
        card: What its maker says.
        target_returns: Return to ask for, unscaled, by task id.
    """

    trained: bool
    model: Any
    card: dict[str, Any]
    target_returns: dict[str, float]


def read_description(folder: Path, sums: Mapping[str, str] | None = None) -> CheckpointDescription:
    """Return what the ``config.json`` of a checkpoint says.

    Args:
        folder: The checkpoint's.
        sums: The checksums of its files, to compare with; None: nothing is compared.

    Raises:
        AgentError: It is no checkpoint, or damaged; one sentence that names the file.
    """
    path = folder / CONFIG_FILE
    try:
        content = read_regular(path, LARGEST_CONFIG)
    except FileNotFoundError:
        raise AgentError(
            f"{folder} has no {CONFIG_FILE}, so it is no checkpoint; give another folder"
        ) from None
    except OSError as error:
        raise AgentError(f"{path} cannot be read ({error.strerror}); copy or save it again") from None
    check_sum(folder, CONFIG_FILE, hashlib.sha256(content).hexdigest(), sums)
    try:
        plain = msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise AgentError(f"{path} is not JSON ({error}); restore it or save the checkpoint again") from None
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise AgentError(f"{path} is not of the format {FORMAT}; convert the model or give another folder")
    if plain.get("version") != VERSION:
        version = shown(msgspec.json.encode(plain.get("version")).decode())
        raise AgentError(f"{path} has version {version}, not {VERSION}; update lram-bench")
    if unknown := sorted(plain.keys() - _FIELDS):
        raise AgentError(f"{path} has an unknown field {shown(unknown[0])!r}; remove it or update lram-bench")
    if not isinstance(plain.get("trained"), bool) or not isinstance(plain.get("card", {}), dict):
        raise AgentError(f"{path}: trained must be true or false, and card an object; fix the file")
    try:
        target_returns = msgspec.convert(plain.get("target_returns", {}), dict[str, float])
    except msgspec.ValidationError as error:
        raise AgentError(f"{path}: target_returns is no object of numbers ({error}); fix the file") from None
    return CheckpointDescription(plain["trained"], plain.get("model"), plain.get("card", {}), target_returns)


def read_card(folder: str | Path) -> dict[str, Any]:
    """Return a checkpoint's card without reading its weights; AgentError where it is none or damaged."""
    folder = placed(folder)
    return read_description(folder, read_sums(folder, FILES)).card


def section(card: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the object that a card, or an object in it, has under ``name``; empty where it has none."""
    found = card.get(name)
    return found if isinstance(found, Mapping) else {}


def origin_digest(card: Mapping[str, Any]) -> str:
    """Return the digest of the checkpoint that a training began from; empty where a card tells none."""
    return str(section(card, "init_from").get("digest", ""))


def store_digests(card: Mapping[str, Any]) -> list[str]:
    """Return the digests of the trajectory stores that a checkpoint was trained on, in the recipe's order."""
    stores = section(card, "data").get("stores")
    listed = stores if isinstance(stores, list | tuple) else ()
    return [str(one["digest"]) for one in listed if isinstance(one, Mapping) and "digest" in one]

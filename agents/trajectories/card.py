"""The card of a store: what the folder is, and who added what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from lram.agents.api import AgentError
from lram.agents.checksums import ChecksumError, sign_file, verify_file
from lram.agents.durable import LARGEST_JSON
from lram.agents.shown import command
from lram.agents.trajectories.layout import CARD_FILE, FORMAT, VERSION, rebuild_advice
from lram.agents.trajectories.listing import read_inside

_CHECKSUM = "checksum"
_CHECKSUM_OF_ANY_NAME = re.compile(rb'"sha256:[0-9a-f]{64}"\n\}\n\Z')


class DamagedCardError(AgentError):
    """The card is missing or not what was written."""


def new_card() -> dict[str, Any]:
    """Return the card of a store to which nobody has added anything."""
    return {"format": FORMAT, "version": VERSION, "additions": []}


def encode_card(card: Mapping[str, Any]) -> bytes:
    """Return the content of the file, with its checksum."""
    return sign_file(msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")


def read_card(path: Path) -> dict[str, Any]:
    """Return the card of the store in ``path``, without its checksum; AgentError where it cannot be read."""
    return read_signed_card(path)[0]


def read_signed_card(path: Path) -> tuple[dict[str, Any], bool]:
    """Return the card of the store in ``path``, and whether it carries a checksum."""
    file = path / CARD_FILE
    if not file.is_file():
        raise DamagedCardError(
            f"{path} is not a trajectory store: it has no {CARD_FILE}; 'lram collect' makes stores, and "
            f"'{command('data', 'rebuild', path)}' a card that was lost"
        )
    content = read_inside(path, CARD_FILE, LARGEST_JSON)
    try:
        signed = verify_file(content)
        card = msgspec.json.decode(content, type=dict[str, Any])
        if not signed and (_CHECKSUM in card or _CHECKSUM_OF_ANY_NAME.search(content)):
            raise ChecksumError("it was changed since it was written: its checksum is damaged")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ChecksumError) as error:
        raise DamagedCardError(f"{file} cannot be read: {error}; {rebuild_advice(path)}") from error
    card.pop(_CHECKSUM, None)
    if card.get("format") != FORMAT:
        raise AgentError(f"{file} is no card of a trajectory store; 'lram collect' makes stores")
    if card.get("version") != VERSION:
        raise AgentError(
            f"{path} is a trajectory store of version {card.get('version')}, and this lram-bench reads "
            f"version {VERSION}; use the lram-bench that made it"
        )
    additions = card.get("additions")
    if not isinstance(additions, list) or not all(isinstance(one, dict) for one in additions):
        raise DamagedCardError(
            f"{file} is damaged: its additions are no list of objects; {rebuild_advice(path)}"
        )
    return card, signed

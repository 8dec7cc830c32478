"""What is read of a checkpoint's card: by one reader, without torch, whatever stands in the card."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lram.agents.api import AgentError
from lram.agents.checkpoints.description import origin_digest, read_card, section, store_digests

CARD = {"made_by": "a test", "data": {"stores": [{"digest": "ab"}, {"path": "x"}, 3, {"digest": "cd"}]}}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    plain = {"format": "lram-checkpoint", "version": 1, "trained": True, "model": {}, "card": CARD}
    (tmp_path / "config.json").write_text(json.dumps(plain))
    return tmp_path


def test_a_card_is_read_without_torch(checkpoint: Path) -> None:
    code = (
        "import sys; from lram.agents.checkpoints.description import read_card; "
        f"print(read_card({str(checkpoint)!r})['made_by'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["a", "test", "False"], done.stderr


def test_a_changed_card_is_noticed(checkpoint: Path) -> None:
    assert read_card(checkpoint) == CARD
    (checkpoint / "SHA256SUMS").write_text(f"{'0' * 64}  config.json\n{'0' * 64}  model.safetensors\n")
    with pytest.raises(AgentError, match="is not what SHA256SUMS says"):
        read_card(checkpoint)


def test_what_is_not_as_it_should_be_tells_nothing() -> None:
    assert store_digests(CARD) == ["ab", "cd"]
    assert store_digests({"data": {"stores": 3}}) == store_digests({"data": []}) == store_digests({}) == []
    assert origin_digest({"init_from": {"digest": "ef"}}) == "ef"
    assert origin_digest({"init_from": "ef"}) == origin_digest({"init_from": {}}) == ""
    assert section({"recipe": "text"}, "recipe") == {}

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class PreTrainedConfig:
    @staticmethod
    def from_pretrained(folder: str) -> Any:
        return SimpleNamespace(**json.loads((Path(folder) / "config.json").read_text()))

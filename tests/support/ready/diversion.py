"""Simulators that are to start from now on come from the server of ready ones."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from support.ready.client import command


def divert(address: str) -> None:
    """Let the server at ``address`` fork the workers that this process starts in this interpreter."""
    from lram.envs.workers import launch

    def start(words: list[str], **options: Any) -> subprocess.Popen[bytes]:
        python, *rest = words
        return subprocess.Popen([*command(address), *rest] if python == sys.executable else words, **options)

    launch.subprocess = SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL)  # type: ignore[assignment]

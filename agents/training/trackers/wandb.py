"""Weights & Biases, and trackers with its interface (Trackio)."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lram.agents.training.sinks import numbers_of

PROJECT = "lram-bench"


class WandbTracker:
    """A run of Weights & Biases, named as the folder; its files lie in the folder's ``wandb``.

    ``WANDB_PROJECT`` names another project than ``lram-bench``, and ``WANDB_MODE=offline`` asks no server.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], update: int) -> None:
        """Begin a run; whatever the package raises where it cannot."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb = importlib.import_module("wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=folder.name,
            dir=str(folder),
            config=dict(settings),
            # Standard output and error are the command's, and nothing of them is sent.
            settings=wandb.Settings(console="off", silent=True),
        )

    def write(self, line: Mapping[str, Any]) -> None:
        """See :class:`lram.agents.training.sinks.Sink`."""
        self._run.log(dict(numbers_of(line)), step=line["update"])

    def close(self) -> None:
        """See :class:`lram.agents.training.sinks.Sink`."""
        self._run.finish()


class TrackioTracker:
    """A run of Trackio, named as the folder, in Trackio's own place on this machine."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], update: int) -> None:
        """Begin a run; whatever the package raises where it cannot."""
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
        trackio = importlib.import_module("trackio")
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT") or PROJECT, name=folder.name, config=dict(settings)
        )

    def write(self, line: Mapping[str, Any]) -> None:
        """See :class:`lram.agents.training.sinks.Sink`."""
        self._run.log(dict(numbers_of(line)), step=line["update"])

    def close(self) -> None:
        """See :class:`lram.agents.training.sinks.Sink`."""
        self._run.finish()

"""MLflow, on the server or in the folder that ``MLFLOW_TRACKING_URI`` names."""

from __future__ import annotations

import importlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lram.agents.training.sinks import numbers_of

EXPERIMENT = "lram-bench"
_AT_ONCE = 1000
"""Metrics that a server takes in one call."""
_PARAMS_AT_ONCE = 100
_LONGEST = 500
"""Characters of a parameter that every version of a server takes."""
_REFUSED = re.compile(r"[^\w\-. /:]", re.ASCII)


class MlflowTracker:
    """A run of MLflow, named as the folder, in ``MLFLOW_EXPERIMENT_NAME`` or ``lram-bench``."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], update: int) -> None:
        """Begin a run; whatever the package raises where it cannot."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self._entities = importlib.import_module("mlflow.entities")
        # A client of its own: the package's current run is the user's.
        self._client = importlib.import_module("mlflow").MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        self._run = self._client.create_run(experiment, run_name=folder.name).info.run_id
        self._names: dict[str, str] = {}
        params = [self._entities.Param(self._name(key), value) for key, value in _texts(settings)]
        for at in range(0, len(params), _PARAMS_AT_ONCE):
            self._client.log_batch(self._run, params=params[at : at + _PARAMS_AT_ONCE])

    def write(self, line: Mapping[str, Any]) -> None:
        """See :class:`lram.agents.training.sinks.Sink`."""
        now = int(time.time() * 1000)
        metrics = [
            self._entities.Metric(self._name(name), value, now, line["update"])
            for name, value in numbers_of(line)
        ]
        for at in range(0, len(metrics), _AT_ONCE):
            self._client.log_batch(self._run, metrics=metrics[at : at + _AT_ONCE])

    def close(self) -> None:
        """See :class:`lram.agents.training.sinks.Sink`."""
        self._client.set_terminated(self._run)

    def _name(self, name: str) -> str:
        """Return ``name`` in the letters that MLflow takes, another one for each name."""
        if name not in self._names:
            clean, taken, count = _REFUSED.sub("_", name), set(self._names.values()), 1
            self._names[name] = clean
            while self._names[name] in taken:
                count += 1
                self._names[name] = f"{clean}_{count}"
        return self._names[name]


def _texts(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _texts(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)[:_LONGEST]

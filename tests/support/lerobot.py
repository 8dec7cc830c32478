"""Policies in LeRobot's layout, and a Python that plays LeRobot with a small package; for tests."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

FAKE = Path(__file__).with_name("fake_lerobot")
STATE = {"observation.state": {"type": "STATE", "shape": [6]}}
IMAGE = {"observation.images.top": {"type": "VISUAL", "shape": [3, 64, 64]}}
WEIGHT = torch.linspace(-0.2, 0.3, 12).reshape(2, 6)


def fake_python(folder: Path, python: Sequence[str] = (sys.executable,)) -> str:
    """Return an executable that runs ``python``, which is this one or a ready one, with the small package."""
    return program(folder, f'PYTHONPATH={shlex.quote(str(FAKE))} exec {shlex.join(python)} "$@"')


def program(folder: Path, line: str) -> str:
    """Return an executable in ``folder`` that the shell runs."""
    folder.mkdir(exist_ok=True)
    (folder / "python").write_text(f"#!/bin/sh\n{line}\n")
    (folder / "python").chmod(0o755)
    return str(folder / "python")


def save(
    folder: Path, inputs: Any = None, weight: torch.Tensor = WEIGHT, text: str = "", **more: Any
) -> Path:
    """Write a policy; ``more`` goes into its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "type": "fake",
        "device": "cuda",
        "pretrained_backbone_weights": "would be downloaded",
        "input_features": STATE if inputs is None else inputs,
        "output_features": {"action": {"type": "ACTION", "shape": [2]}},
        "normalization_mapping": {"STATE": "MEAN_STD"},
        "width": weight.shape[1],
        "noise": 0.0,
        **more,
    }
    (folder / "config.json").write_text(json.dumps(told))
    save_file({"weight": weight.contiguous()}, folder / "model.safetensors")
    steps = [{"registry_name": "device_processor", "config": {"device": "cuda"}}]
    before = {"steps": [*steps, {"state_file": "policy_preprocessor_step_1.safetensors"}], "factor": 0.5}
    (folder / "policy_preprocessor.json").write_text(json.dumps({**before, "text": text or "go there"}))
    (folder / "policy_preprocessor_step_1.safetensors").write_bytes(b"statistics")
    after = {"steps": [], "factor": 2.0}
    (folder / "policy_postprocessor.json").write_text(json.dumps(after))
    return folder

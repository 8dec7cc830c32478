"""These tests need a device: they are collected where ``LRAM_GPU_DEVICE`` names one, as ``run.sh`` does."""

from __future__ import annotations

import os

import pytest

if "LRAM_GPU_DEVICE" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def device() -> str:
    """Where models act: ``cuda``, or ``cpu`` when every step is only walked."""
    return os.environ["LRAM_GPU_DEVICE"]

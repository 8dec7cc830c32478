"""Interpreters of a domain's own: never the ones of the person who runs the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is installed on this machine out of the tests: they play in this interpreter by default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRAM_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def isolated_robosuite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an interpreter that ``lram env install robosuite`` makes.

    Installing takes a minute or two; LRAM_TEST_ROBOSUITE_PYTHON may name one that is there.
    """
    if ready := os.environ.get("LRAM_TEST_ROBOSUITE_PYTHON"):
        return ready
    from lram.harness.interpreters import install

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRAM_HOME", str(tmp_path_factory.mktemp("robosuite")))
        return install("robosuite").path

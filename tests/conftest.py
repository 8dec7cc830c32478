"""Interpreters of a domain's own, never those of the person who runs the tests; what runs side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

ALONE = {"cluster", "isolated_robosuite"}
"""Fixtures that are too large to have twice on one machine at a time: their tests share one process."""


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks when it collects, too
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a module in one process, for its fixtures, and begin with those that take longest."""
    large = {item.path for item in items if ALONE.intersection(getattr(item, "fixturenames", ()))}
    for item in items:
        item.add_marker(pytest.mark.xdist_group("large" if item.path in large else str(item.path)))
    items.sort(key=lambda item: item.path not in large)


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

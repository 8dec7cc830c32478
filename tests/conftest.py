"""Interpreters of a domain's own, never those of the person who runs the tests; what runs side by side."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says what else the machine does: pytest's limit a test is enough.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

TOGETHER = {
    "test_cluster": "cluster",
    "test_cluster_ablate": "cluster",
    "test_cluster_latency": "cluster",
    "test_robosuite": "robosuite",
    "test_mixed_interpreters": "robosuite",
}
"""Modules that take long, and of which a machine can hold one of a kind at a time: they start clusters, or
share an interpreter that was installed for them."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Keep the tests of a module in one process, for its fixtures, and likewise those of ``TOGETHER``."""
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return TOGETHER.get(Path(file).stem, file)

    return ByModule(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Have one server of ready processes, not one for each process of pytest-xdist."""
    from support.ready import share

    share()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: item.path.stem not in TOGETHER)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import the tests without looking for garbage, which takes as long again: there is next to none."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()  # nor later in what was imported
        gc.enable()


@pytest.fixture(scope="module", autouse=True)
def _little_to_collect() -> None:
    """Leave what was imported to the end: looking for garbage in it takes a fifth of a second, each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is installed on this machine out of the tests: they play in this interpreter by default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRAM_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def isolated_robosuite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an interpreter that ``lram env install robosuite`` makes.

    Installing takes half a minute with uv, whose cache needs no unpacking, and a minute or two with pip;
    LRAM_TEST_ROBOSUITE_PYTHON may name one that is there.
    """
    if ready := os.environ.get("LRAM_TEST_ROBOSUITE_PYTHON"):
        return ready
    from lram.harness.interpreters import install

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRAM_HOME", str(tmp_path_factory.mktemp("robosuite")))
        return install("robosuite").path

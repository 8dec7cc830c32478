"""What the tests of several simulators share."""

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec

import pytest


@pytest.fixture(scope="session")
def checkouts() -> Callable[..., None]:
    """Return what skips a test unless the packages it is called with, which no registry has, are there."""
    for folder in filter(None, os.environ.get("LRAM_TEST_SOURCES", "").split(os.pathsep)):
        if folder not in sys.path:
            sys.path.append(folder)

    def need(*modules: str) -> None:
        absent = [module for module in modules if find_spec(module) is None]
        if absent:
            pytest.skip(
                f"needs a checkout of {' and '.join(absent)}: set LRAM_TEST_SOURCES to its folder "
                f"(several: separated by {os.pathsep!r})"
            )

    return need

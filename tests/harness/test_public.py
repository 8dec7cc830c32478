"""What the package offers by its short names."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import lram.harness
import lram.reports


@pytest.mark.parametrize("package", [lram.harness, lram.reports])
def test_every_public_name_is_there_and_documented(package: object) -> None:
    for name in package.__all__:  # type: ignore[attr-defined]
        value = getattr(package, name)
        assert inspect.isclass(value) or inspect.isfunction(value), name
        assert inspect.getdoc(value), name


def test_the_short_names_stay_what_they_are_after_their_modules_are_imported() -> None:
    script = (
        "import lram.harness.evaluation, lram.reports.aggregate, lram.harness, lram.reports; "
        "assert callable(lram.harness.evaluate) and callable(lram.reports.summarise)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        lram.harness.nope  # noqa: B018

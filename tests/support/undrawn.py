"""Reports whose figures are made, but not drawn: for tests that look at all else of a report.

To lay figures out and to draw each three times takes most of the time of a report.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from matplotlib.layout_engine import ConstrainedLayoutEngine

from lram.reports import drawing


@contextmanager
def undrawn(*, svg: bool = False) -> Iterator[None]:
    """Let the files of a figure hold its name; with ``svg``, draw that file (and on the page), no other."""
    saved = drawing._saved

    def named(one: drawing.Drawing, kind: drawing.Kind, ground: dict[str, Any]) -> bytes:
        if kind == "svg":
            return saved(one, kind, ground) if svg else f'<svg><g id="{one.name}"></g></svg>'.encode()
        return f"{one.name}.{kind}".encode()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "_saved", named)
        if not svg:
            patch.setattr(ConstrainedLayoutEngine, "execute", lambda engine, figure: None)
        yield

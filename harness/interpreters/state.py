"""What is the matter with an interpreter that was installed."""

from __future__ import annotations

from pathlib import Path

from lram.harness.interpreters.folder import InterpreterFolder
from lram.harness.interpreters.pythons import minor_version


def state(there: InterpreterFolder) -> str:
    """Return ``installed``, or what is the matter."""
    from lram.envs.errors import SelectionError
    from lram.envs.registry import load_domain

    if there.interpreter is None:
        return "unfinished"
    if problem := broken(there):
        return f"broken: {problem}"
    try:
        recipe = load_domain(there.domain).interpreter
    except SelectionError:
        return "installed, for a domain that is gone"
    changed = recipe is None or recipe.requirements != there.interpreter.requirements
    return "outdated: its versions have changed since" if changed else "installed"


def broken(there: InterpreterFolder) -> str:
    """Return why nothing can be played in what is installed, a clause; empty where that is not known."""
    if minor_version(str(there.python)) is None:
        return "its Python is gone"
    sources = there.interpreter.sources if there.interpreter is not None else ()
    gone = [source.module for source in sources if not (Path(source.path) / source.module).is_dir()]
    return f"the checkout of {', '.join(gone)} is gone" if gone else ""

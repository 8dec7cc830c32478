"""Interpreters of a domain's own: virtual environments with its pinned versions, in the user's data folder.

::

    DATA/    $LRAM_HOME, else $XDG_DATA_HOME/lram-bench, else ~/.local/share/lram-bench
        interpreters/DOMAIN/
            interpreter.json         what was installed, and in which of the environments; written last, so
                                     without it nothing counts
            install.log              what the installers said the last time
            venv/, venv-2/, ...      the environment itself; several while one is installed anew
        interpreters/DOMAIN.lock     held while one is installed or removed
        interpreters/DOMAIN.used     shared by the runs that play in it, held while an environment is deleted
        sources/MODULE/              checkouts that were cloned on request

Nothing of lram-bench is installed there: a worker imports this installation's ``lram.envs`` by its path
(:mod:`lram.envs.workers.pool`), so an interpreter does not grow stale when lram-bench changes.
"""

from lram.harness.interpreters.choosing import resolve
from lram.harness.interpreters.folder import Interpreter, UsedSource, installed, remove, used
from lram.harness.interpreters.installing import install
from lram.harness.interpreters.sources import SourcesNeededError

__all__ = [
    "Interpreter",
    "SourcesNeededError",
    "UsedSource",
    "install",
    "installed",
    "remove",
    "resolve",
    "used",
]

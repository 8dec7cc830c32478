"""Errors meant for the user.

::

    LramError           one clear sentence: what, why, and what to do next

The command line prints it and exits with code 2; Python callers catch it.
"""

from __future__ import annotations


class LramError(Exception):
    """Something the user can mend; the message is one sentence."""

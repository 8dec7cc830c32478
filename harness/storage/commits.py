"""The commit that a folder has checked out, asked of git without running what the checkout says.

A checkout's own configuration can name programs (``core.fsmonitor``, filters, places to fetch from), and
``git status`` runs them. The folder may be a stranger's. So whether files were changed is asked only where
the configuration holds nothing but settings that are known to name no program.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

_PLAIN = re.compile(
    r"core\.(repositoryformatversion|filemode|bare|logallrefupdates|ignorecase|precomposeunicode|symlinks"
    r"|autocrlf|eol|safecrlf|abbrev|quotepath|compression|sparsecheckout(cone)?|untrackedcache)"
    r"|(remote|branch|user|submodule|gc|pull|push|init|color|rebase|merge|fetch|maintenance|index|feature)"
    r"\.(.*\.)?(url|pushurl|fetch|remote|merge|rebase|name|email|active|branch|auto|default|ff|prune|tags"
    r"|tagopt|gh-resolved|vscode-merge-base|version)"
    r"|lfs\.repositoryformatversion"
)
_TIMEOUT_S = 10


def commit_of(folder: Path, tracked: str = "") -> str:
    """Return the commit checked out in ``folder``, with ``+changes`` where files differ from it, or with
    ``+unchecked`` where asking could run programs; empty where that is no git checkout.

    With ``tracked``, also where the checkout does not hold this file of the folder: an environment in
    somebody's repository has that repository around it, not its own source.
    """
    try:
        if tracked:
            _git(folder, "ls-files", "--error-unmatch", tracked)
        commit = _git(folder, "rev-parse", "HEAD")
        if not _is_plain(folder):
            return f"{commit}+unchecked"
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    except (OSError, subprocess.SubprocessError):
        return ""
    return commit + ("+changes" if changed else "")


def _is_plain(folder: Path) -> bool:
    names = _git(folder, "config", "--local", "--no-includes", "--name-only", "--list", "-z").split("\0")
    return all(_PLAIN.fullmatch(name) for name in names if name)


def _git(folder: Path, *arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}", *arguments],
        cwd=folder,
        # Not even its index is refreshed (which has a hook), and nothing is fetched.
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_ALLOW_PROTOCOL": "none"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_TIMEOUT_S,
        check=True,
    )
    return answer.stdout.strip()

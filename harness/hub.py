"""A folder sent to the Hugging Face hub: the one place that uses its client, and only when asked to.

The client reads its own settings: the token of ``hf auth login`` or ``HF_TOKEN``, and the server in
``HF_ENDPOINT``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from lram.harness.errors import LramError
from lram.harness.words import brief

KEPT = "README.md"


@dataclass(frozen=True, slots=True)
class HubRepository:
    """Where a folder goes.

    Attributes:
        id: ``OWNER/NAME``.
        kind: What it is.
        public: A repository that is made now is seen by everybody; others stay what they are.
        pull_request: Propose the files, and change nothing that is there.
    """

    id: str
    kind: Literal["dataset", "model"]
    public: bool = False
    pull_request: bool = False


def client() -> Any:
    """Return the client; LramError where its package or a token is missing, before any work is done."""
    try:
        hub = import_module("huggingface_hub")
    except ImportError as error:
        raise LramError(
            f"--push needs the package huggingface_hub ({error}); pip install 'lram-bench[hub]'"
        ) from error
    if not hub.get_token():
        raise LramError(
            "--push needs a token of the Hugging Face hub that may write; 'hf auth login' stores one, or set "
            "HF_TOKEN"
        )
    return hub.HfApi()


def push(api: Any, folder: Path, repository: HubRepository, ours: str) -> str:
    """Upload ``folder``; return the address of what was made.

    Args:
        api: The client.
        folder: Every file in it is sent.
        repository: Where; it is made where it is missing.
        ours: A file that a repository has whose card is ours to replace.

    Raises:
        LramError: The hub refuses, or is not reached; or the repository has a card of somebody else's.
    """
    where = {"repo_id": repository.id, "repo_type": repository.kind}
    _asked(folder, repository, lambda: api.create_repo(**where, private=not repository.public, exist_ok=True))

    def others() -> bool:
        return bool(api.file_exists(filename=KEPT, **where)) and not api.file_exists(filename=ours, **where)

    if not repository.pull_request and _asked(folder, repository, others):
        raise LramError(
            f"{repository.id} has a {KEPT} that 'lram publish' did not write, and it would be replaced; "
            "--pull-request proposes the files instead, or push to another repository"
        )
    made = _asked(
        folder,
        repository,
        lambda: api.upload_folder(
            **where,
            folder_path=str(folder),
            commit_message="Evaluation by lram-bench",
            create_pr=repository.pull_request,
        ),
    )
    return str(getattr(made, "pr_url", None) or getattr(made, "commit_url", None) or made)


def _asked(folder: Path, repository: HubRepository, call: Callable[[], Any]) -> Any:
    """Return what the hub answers; whatever its client raises becomes one sentence."""
    try:
        return call()
    except Exception as error:  # the client's errors are those of three libraries
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = brief(" ".join(lines[:3]), 300) or type(error).__name__
        raise LramError(
            f"{repository.id} could not be pushed to ({said}); {folder} is whole, so repeat the command when "
            "that is put right"
        ) from error

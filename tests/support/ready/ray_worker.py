"""What Ray starts in place of its own ``setup_worker.py``: a worker that the server of ready processes forks.

Ray tells of a worker by the number that it was started under or by the socket that it answers on, so the
worker may be a child of another process. Environments of a job's own are Ray's to set up, not this file's.
"""

import json
import os
import sys

from client import ADDRESS, command


def main() -> None:
    """Become the client of the server; the script of Ray's worker is the command."""
    ours = {"--serialized-runtime-env-context": "{}", "--language": "PYTHON"}
    words = []
    for word in sys.argv[1:]:
        name, _, value = word.partition("=")
        if name in ours:
            ours[name] = value
        else:
            words.append(word)
    environment = json.loads(ours["--serialized-runtime-env-context"] or "{}")
    os.environ.update(environment.get("env_vars", {}))
    assert not environment.get("command_prefix"), "a job's own environment is not for ready processes"
    os.execv(sys.executable, [*command(os.environ[ADDRESS]), *words])


if __name__ == "__main__":
    main()

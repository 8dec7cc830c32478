"""The one rule for ids of tasks, ``domain/name``: what can be selected, recorded and trained on.

Light, and of the standard library: workers' interpreters load it.
"""

from __future__ import annotations

_LONGEST = 200
RULE = (
    "printable text of 1 to 200 characters without commas, bars, spaces at its ends and the parts . and .. "
    "of a path"
)
"""What a task's name within its domain is, in words."""


def is_task_name(name: object) -> bool:
    """Return whether a domain can call a task ``name``: as :data:`RULE` says.

    A comma parts selections, a bar stands between columns of records, and what is no plain part of a
    path could lead out of a folder: ids come with files of others.
    """
    return (
        isinstance(name, str)
        and 0 < len(name) <= _LONGEST
        and name.isprintable()
        and name == name.strip()
        and not {",", "|"} & {*name}
        and not {".", ".."} & {*name.split("/")}
    )


def is_task_id(text: object) -> bool:
    """Return whether ``text`` is the id of a task, known or not.

    What domains are called that are loaded is narrower: :data:`lram.envs.announced.NAME`.
    """
    domain, slash, name = text.partition("/") if isinstance(text, str) else ("", "", "")
    return bool(slash) and is_task_name(domain) and not any(map(str.isspace, domain)) and is_task_name(name)

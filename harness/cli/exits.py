"""Exit codes, and what each of them says of a command. docs/reference/exit-codes.md is this table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_NOT_JUDGED = 12
EXIT_INTERRUPTED = 130
VERDICTS: Mapping[str, int] = MappingProxyType(
    {"better": 0, "no difference shown": 10, "worse": 11, "not comparable": 12}
)
"""Codes of ``lram compare``, by the verdict's word."""

ALWAYS: Mapping[int, str] = MappingProxyType(
    {
        EXIT_BAD_INPUT: "refused, or could not continue: one sentence on standard error says what, why and "
        "what to do; what was recorded before stands",
        EXIT_INTERRUPTED: "interrupted by Ctrl-C, SIGTERM or SIGHUP; what was recorded stands, and the last "
        "line says how to continue, where that is possible",
    }
)
"""Codes that every command may end with, besides its own."""

_EVALUATED: Mapping[int, str] = {
    0: "every planned episode has a score; with --allow-errors: each agent has a scored episode on each task "
    "that it can play",
    1: "planned episodes have no score; how many, and why, is printed",
}
_SCORED: Mapping[int, str] = {
    0: "each agent has a scored episode on each task that it can play",
    1: "an agent has no scored episode on a task; it is named",
}
_LISTED: Mapping[int, str] = {0: "listed"}
_WRITTEN: Mapping[int, str] = {0: "written"}
_STORE: Mapping[int, str] = {0: "nothing is wrong", 1: "something is damaged; it is named"}

OWN: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        "demo": _EVALUATED,
        "eval": _EVALUATED,
        "resume": _EVALUATED,
        "collect": _SCORED,
        "reference": {
            0: "measured and written",
            1: "a reference is not above random play by more than chance; its task is named and left out",
        },
        "report": _WRITTEN,
        "publish": {0: "written, and with --push uploaded"},
        "leaderboard": _WRITTEN,
        "compare": {code: f"the verdict is '{word}'" for word, code in VERDICTS.items()},
        "film": {
            0: "every film that was asked for is there, and equals its record",
            1: "an episode has no film, because its replay is not its record or could not be rendered, or "
            "because two agents do not differ in it; it is named",
        },
        "verify": {
            0: "every replayed episode equals its record",
            EXIT_FAILED: "an episode differs from its record although it was replayed under the same "
            "conditions; it is named, with what differs",
            EXIT_NOT_JUDGED: "an episode differs, and other conditions (processor, C library, versions, how "
            "a model computes) or a failed replay may be why; they are named",
        },
        "check": {
            0: "every agent passed every check that was made",
            1: "a check failed, or an agent could not be tried on any task",
        },
        "tasks": _LISTED,
        "suites": _LISTED,
        "domains": _LISTED,
        "agents": _LISTED,
        "literature": _LISTED,
        "doctor": {0: "everything was tried, whatever of it works"},
        "serve": {0: "stopped by Ctrl-C, SIGTERM or SIGHUP"},
        "create": _WRITTEN,
        "import-checkpoint": _WRITTEN,
        "bench model": {0: "measured"},
        "bench train": {0: "measured"},
        "data import": {
            0: "all that was asked for is in the store, from now or from before",
            1: "with --skip-bad: a part of the source could not be read and was left out; it is named",
        },
        "data export": {0: "the data set is there, whole"},
        "data info": _LISTED,
        "data verify": _STORE,
        "data rebuild": {0: "the index is whole again", 1: "a damaged part was set aside; it is named"},
        "train": {0: "trained to the end"},
        "finetune": {0: "trained to the end"},
        "watch": {
            0: "every checkpoint that is kept has all of its episodes",
            1: "a checkpoint could not be played or lacks episodes, or none is kept, or the confirmation "
            "that was asked for (`--confirm`) lacks episodes; it is named",
        },
        "cast": _WRITTEN,
        "export": _WRITTEN,
        "embed": _WRITTEN,
        "latency": {0: "something was measured; what did not fit is named", 1: "nothing could be measured"},
        "extrapolate": {
            0: "measured, and each model's step equals its forward",
            1: "a model's step is not its forward, or an agent that raised left episodes out",
        },
        "paper": {
            0: "listed, or all commands of the item ended with 0",
            1: "a command of the item ended with 1, as the row of that command says; the item is not ended",
        },
        "ablate": {0: "every cell is there", 1: "a cell failed; it is named, and the others are there"},
        "env install": {0: "installed, now or before"},
        "env list": _LISTED,
        "env remove": {0: "removed"},
        "env check": {0: "every task passed", 1: "a task failed; it is named"},
    }
)
"""Codes by command that are its own."""


def markdown() -> str:
    """Return the tables of docs/reference/exit-codes.md: commands that say the same share a line."""
    sharing: dict[tuple[int, str], list[str]] = {}
    for command, codes in OWN.items():
        for code, text in codes.items():
            sharing.setdefault((code, text), []).append(f"`lram {command}`")
    return "\n".join(
        [
            "| code | of every command |",
            "|---|---|",
            *(f"| {code} | {_cell(text)} |" for code, text in ALWAYS.items()),
            "",
            "| command | code | what it says |",
            "|---|---|---|",
            *(
                f"| {', '.join(commands)} | {code} | {_cell(text)} |"
                for (code, text), commands in sharing.items()
            ),
        ]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

"""The folder of an exported policy: written whole, after it was compared with the agent, or not at all.

    policy.onnx or policy.pt2   the graph of one decision
    model.json                  what goes in and out, the task, the model, what was measured
    policy.py                   runs an episode, decision by decision, without this package
    card.md                     the same for people
    SHA256SUMS                  of all these

``model.json`` names for any runner: ``inputs`` (what each decision is given) and ``outputs`` (what it gives),
each with type and shape, and ``state``: pairs of an input and the output that takes its place at the next
decision, with the number that fills it before an episode's first.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import AgentError, TaskSpec
from lram.agents.durable import publish_folder, sync_folder
from lram.agents.exporting import policy as runner
from lram.agents.exporting.agreement import TOLERANCE, Agreement, agreement
from lram.agents.exporting.card import card
from lram.agents.exporting.decision import NEW, OneDecision, Port
from lram.agents.exporting.graphs import FILES, Format, check_packages, write_graph
from lram.agents.model.config import config_to_dict
from lram.agents.places import placed
from lram.agents.shown import shown
from lram.agents.sums import SUMS_FILE, file_sum, render_sums

FORMAT = "lram-export"
VERSION = 1
ABOUT_FILE, CARD_FILE, POLICY_FILE = "model.json", "card.md", "policy.py"


def export_policy(
    folder: str | Path, agent: ModelAgent, task: TaskSpec, to: Format, *, tolerance: float = TOLERANCE
) -> Agreement:
    """Write one decision of ``agent`` for ``task`` as a folder that runs without this package.

    Args:
        folder: Where; must be new.
        agent: The agent; its weights are in the graph.
        task: Fixes what is seen, the actions there are, the reward's scale and the return to ask for.
        to: The graph's format.
        tolerance: See :data:`lram.agents.exporting.agreement.TOLERANCE`.

    Returns:
        How well the folder's policy and the agent agree.

    Raises:
        AgentError: The folder exists; the model refuses the task, or cannot be exported; a package is
            missing; or the policy does not decide as the agent does. Nothing is left then.
        OSError: The system refuses to write; likewise.
    """
    folder = placed(folder)
    if folder.exists() or folder.is_symlink():
        raise AgentError(f"{folder} exists and is kept; name another folder for the export")
    check_packages(to)
    decision = OneDecision(agent, task)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        write_graph(decision, to, partial)
        about = _about(agent, decision, to)
        _write_json(partial / ABOUT_FILE, about)
        found = agreement(agent, _opened(partial, to), task, tolerance=tolerance)
        about["agreement"] = asdict(found)
        _write_json(partial / ABOUT_FILE, about)
        shutil.copyfile(runner.__file__, partial / POLICY_FILE)
        (partial / CARD_FILE).write_text(card(about), encoding="utf-8")
        names = sorted(file.name for file in partial.iterdir())
        (partial / SUMS_FILE).write_bytes(render_sums({name: file_sum(partial / name) for name in names}))
        publish_folder(partial)
        partial.rename(folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return found


def _opened(folder: Path, to: Format) -> runner.Policy:
    try:
        return runner.Policy(folder)
    except Exception as error:  # the runtimes have classes of their own
        words = str(error).strip().partition("\n")[0]
        raise AgentError(
            f"the graph was written, and what is to run it refuses it ({type(error).__name__}: "
            f"{shown(words, 300)}), so nothing was kept; update the packages of the extra export, or "
            f"export to {'torch-export' if to == 'onnx' else 'onnx'}"
        ) from error


def _about(agent: ModelAgent, decision: OneDecision, to: Format) -> dict[str, Any]:
    """Return what ``model.json`` says, but for the agreement."""
    info = agent.info
    packages = ["lram-bench", "torch", "numpy"]
    packages += ["onnx", "onnxscript", "onnxruntime"] if to == "onnx" else []
    return {
        "format": FORMAT,
        "version": VERSION,
        "to": to,
        "file": FILES[to],
        "task": asdict(decision.task),
        "target_return": decision.target_return,
        "inputs": [_shown(port) for port in decision.given],
        "outputs": [_shown(port) for port in decision.gives],
        "state": [
            {
                "input": port.name,
                "output": NEW + port.name,
                "dtype": port.dtype,
                "shape": list(port.shape),
                "initial": port.initial,
            }
            for port in decision.state
        ],
        "model": {
            "description": info.description,
            "digest": info.digest,
            "trained": info.trained,
            "parameters": info.parameters,
            "training_tasks": info.training_tasks,
            "config": config_to_dict(decision.config),
        },
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
    }


def _shown(port: Port) -> dict[str, Any]:
    return {"name": port.name, "dtype": port.dtype, "shape": list(port.shape), "meaning": port.meaning}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _write_json(file: Path, plain: dict[str, Any]) -> None:
    file.write_bytes(msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n")

"""The card of an exported policy: what a reader needs to know before it moves anything."""

from __future__ import annotations

from typing import Any


def card(about: dict[str, Any]) -> str:
    """Return ``card.md`` for what ``model.json`` says."""
    task, model, found = about["task"], about["model"], about["agreement"]
    needs = "onnxruntime" if about["to"] == "onnx" else "torch"
    seen, kind, size = " x ".join(map(str, task["observation_shape"])), task["action"], task["action_size"]
    actions = f"one of 0 to {size - 1}" if kind == "discrete" else f"{size} numbers in [-1, 1]"
    asked = about["target_return"]
    ties = found["ties"]
    state = sum(_count(one["shape"]) for one in about["state"])
    lines = [
        f"# A policy for {task['id']}",
        "",
        f"{model['description']}. One decision of it, exported to {about['to']} (`{about['file']}`).",
        "",
        "## Run it",
        "",
        f"`policy.py` needs Python 3.10 or later, numpy and {needs}, and no other package:",
        "",
        "```python",
        "from policy import Policy",
        "",
        "policy = Policy()",
        "policy.reset()                            # at the beginning of every episode",
        "action = policy.act(observation, reward)  # reward: what the last action earned",
        "```",
        "",
        "## What goes in and out",
        "",
        f"- Observation: {task['observation']}, {seen}, {about['inputs'][0]['dtype']}, as the task shows it.",
        f"- Action: {actions}; the likeliest, nothing is drawn.",
        f"- Rewards are unscaled; the graph divides by {task['reward_scale']:g} and adds them up.",
        *(
            [f"- Return asked for: {asked:g}; `reset(target_return)` asks for another."]
            if asked is not None
            else []
        ),
        f"- State: {len(about['state'])} tensors of {state:,} numbers in all, given back at each decision.",
        "- The policy takes its own last action as done, where it reads actions."
        if any(one["input"] == "last_classes" for one in about["state"])
        else "- It reads no actions: what was done instead of its own shows in what it observes.",
        "",
        "| name | type | shape | what |",
        "|---|---|---|---|",
        *(
            f"| {one['name']} | {one['dtype']} | {one['shape']} | {way}: {one['meaning']} |"
            for way, part in (("in", about["inputs"]), ("out", about["outputs"]))
            for one in part
        ),
        *(
            f"| {one['input']} | {one['dtype']} | {one['shape']} | state, filled with {one['initial']:g} at "
            f"first; next: {one['output']} |"
            for one in about["state"]
        ),
        "",
        "## Compared with the agent",
        "",
        f"{found['decisions']} decisions of {found['episodes']} made-up episodes: "
        + (
            "every action is equal"
            if not ties
            else f"{ties} numbers of actions differ, where two classes tie"
        )
        + f", logits differ by {found['largest_difference']:.2g} of the largest at most "
        f"({found['tolerance']:g} is allowed). The agent's step: {found['step']}.",
        "",
        f"Digest of the model: {model['digest'] or 'none'}. "
        + ", ".join(f"{name} {number}" for name, number in about["versions"].items())
        + ".",
    ]
    return "\n".join(lines) + "\n"


def _count(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total

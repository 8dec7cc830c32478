"""Agents by name: what a user writes on the command line or in a plan.

    random, scripted, sac, planner, learner    baselines
    constant, constant=0.5    a baseline with a value
    xlstm[7:1]-16M            an untrained action model of that preset
    small-xlstm[7:1]          a trained model that comes with the package
    (:mod:`lram.agents.checkpoints.shipped`) runs/x/checkpoint         a checkpoint's folder
    SCHEME:WHERE              a policy from outside, by an adapter (:mod:`lram.agents.adapters`)
    my_module:make_agent      a callable of the user's own code that returns an Agent
    their-name                an entry point of the group ``lram.agents``
    my_module:make(3, x='a')  either of these two with arguments (:mod:`lram.agents.calls`)
    ...@window=50, @reset=50  an action model that sees a limited context (:mod:`lram.agents.acting.contexts`)
    scripted~0.3, ...~0.3x5   any of these with random actions in between (:mod:`lram.agents.experts.noise`)

A name stands for its agent whatever lies in the working directory: a checkpoint's folder that is called as an
agent is written as a path, ``./random``.

Nothing heavy is imported before an agent needs it.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lram.agents.acting.contexts import parse_context
from lram.agents.adapters import ADAPTERS, adapter_of
from lram.agents.adapters import load as load_adapted
from lram.agents.api import Agent, AgentError, checked_agent
from lram.agents.backbones.spec import BackboneSpec
from lram.agents.calls import call_with, parse_arguments, split_call
from lram.agents.checkpoints.description import read_description
from lram.agents.checkpoints.known_tasks import KnownTasks, known_tasks
from lram.agents.checkpoints.shipped import shipped_checkpoints
from lram.agents.compute import Compute
from lram.agents.devices import find_device, refusal
from lram.agents.experts.noise import NoisyAgent, parse_noise
from lram.agents.installed import entry_points
from lram.agents.model.config import config_from_dict
from lram.agents.model.presets import is_preset, is_preset_like, parse_preset, preset_names
from lram.agents.own_code import GROUP, named_module
from lram.agents.own_modules import is_dotted, search_first, split_code
from lram.agents.shown import shown
from lram.agents.spec import parse_agent

if TYPE_CHECKING:
    from lram.agents.model.network import ActionModel


@dataclass(frozen=True, slots=True)
class AgentRow:
    """An agent for a listing."""

    name: str
    kind: str
    description: str


_BASELINES = (
    AgentRow("random", "baseline", "uniform over the task's actions"),
    AgentRow("constant", "baseline", "always the same action; constant=0.5 names its value"),
    AgentRow("scripted", "baseline", "Meta-World's experts, and heuristics for a few other tasks"),
    AgentRow("sac", "baseline", "DMControl: networks that soft actor-critic trained, one a task"),
    AgentRow("planner", "baseline", "DMControl: sampling search on MuJoCo's own model of the task"),
    AgentRow("learner", "baseline", "Dark-Room: finds the goal and remembers it over a trial"),
)


def list_agents() -> list[AgentRow]:
    """Return baselines, presets and entry points, without importing any of them."""
    rows = list(_BASELINES)
    rows += [AgentRow(name, "model", _shipped_row(folder)) for name, folder in shipped_checkpoints().items()]
    for name in preset_names():
        config = parse_preset(name)
        shape = f"{config.describe()}, {config.layers} blocks of width {config.width}"
        rows.append(AgentRow(name, "model", f"{shape}, untrained (random weights)"))
    rows += [AgentRow(one.example, "adapter", one.description) for one in ADAPTERS]
    rows += [AgentRow(point.name, "entry point", point.value) for point in _points()]
    return rows


def create_agent(spec: str | os.PathLike[str], *, seed: int = 0, compute: Compute | None = None) -> Agent:
    """Return the agent that ``spec`` names (the module's text tells the grammar).

    Args:
        spec: What to build; a path object is a checkpoint's folder, whatever agent has that name.
        seed: Of an untrained model's weights; given to callables that take a ``seed``.
        compute: How a model computes (None: in float32 on the processor); callables are given those of
            its fields that they take: ``device``, ``precision``, ``step``, ``rows``.

    Raises:
        AgentError: There is no such agent, or it cannot be built; one sentence.
    """
    compute = compute or Compute()
    if isinstance(spec, os.PathLike):
        spec = str(Path(spec).absolute())
    if not isinstance(spec, str):
        raise AgentError(f"an agent is named by a text, such as 'random', not by a {type(spec).__name__}")
    parsed = parse_agent(spec, lambda text: _exists(text) and not names_agent(text))
    agent = _base(parsed.base, seed, compute)
    for suffix, named in zip(parsed.suffixes, reversed(parsed.heads[:-1]), strict=True):
        if suffix.mark == "~":
            agent = NoisyAgent(agent, parse_noise(suffix.text))
        else:
            acting = importlib.import_module("lram.agents.acting.context_agent")
            agent = acting.with_context(agent, parse_context(suffix.text), named)
    return agent


def _base(spec: str, seed: int, compute: Compute) -> Agent:
    """Return the agent that a name without suffixes stands for."""
    if (adapter := adapter_of(spec)) is not None:
        return load_adapted(adapter, spec, seed, compute)
    name, _, value = spec.partition("=")
    if name in [row.name for row in _BASELINES]:
        return _baseline(name, value, spec)
    if spec in shipped_checkpoints():
        return _checkpoint(str(shipped_checkpoints()[spec]), compute)
    if is_preset(spec):
        return _untrained(spec, seed, compute)
    if is_preset_like(spec):
        parse_preset(spec)  # raises, with the sizes there are
    for point in _points():
        if point.name in (spec, split_call(spec)[0]):
            parse_arguments("" if point.name == spec else spec)  # before anything of it is run
            return _call(_load_point(point), spec, seed, compute, bare=point.name == spec)
    if named_module(spec):
        return _call(_load_own(spec), spec, seed, compute)
    if spec and ("/" in spec or _exists(spec)):
        if not _exists(spec) and (hint := _own_hint(spec)):
            raise AgentError(f"there is no agent {spec!r}; {hint}")
        return _checkpoint(spec, compute)
    if hint := _own_hint(spec):
        raise AgentError(f"there is no agent {spec!r}; {hint}")
    close = difflib.get_close_matches(spec, [row.name for row in list_agents()], n=1, cutoff=0.5)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise AgentError(
        f"there is no agent {spec!r}{hint}; give one that 'lram agents' lists, a checkpoint's folder or "
        "module:callable"
    )


def _own_hint(spec: str) -> str:
    """Return how own code is to be named that was named by its file, or by what is no module's name."""
    place, colon, name = split_call(spec)[0].rpartition(":")
    if not colon or not is_dotted(name):
        return ""
    file = Path(place if place.endswith(".py") else f"{place}.py")
    module = ".".join(part for part in file.with_suffix("").parts if part != os.curdir)
    if is_dotted(module) and not file.is_absolute() and ("/" in place or place.endswith(".py")):
        return f"own code is named by its module, not by its file: {module}:{name}"
    if "/" not in place and not is_dotted(module):
        return (
            f"{shown(place)!r} is no name of a module, which begins with a letter of a to z or _ and has "
            "letters, digits, _ and dots after it; call the file so"
        )
    return ""


def names_agent(spec: str) -> bool:
    """Return whether ``spec``, perhaps with noise or a context, names an agent rather than its folder."""
    named = parse_agent(spec)
    return (
        named.base.partition("=")[0] in [row.name for row in _BASELINES]
        or adapter_of(named.base) is not None
        or named.base in shipped_checkpoints()
        or is_preset(named.base)
        or any(point.name in (named.base, named.called) for point in _points())
    )


def _exists(spec: str) -> bool:
    try:
        return Path(spec).exists()
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False


def _shipped_row(folder: Path) -> str:
    config = config_from_dict(read_description(folder).model)
    return f"{config.describe()}, {config.layers} blocks of width {config.width}, trained; it comes along"


def _baseline(name: str, value: str, spec: str) -> Agent:
    baselines = importlib.import_module("lram.agents.experts.baselines")
    if name != "constant":
        if "=" in spec:
            raise AgentError(f"{name} takes no value; write {name} instead of {spec}")
        if name == "sac":
            actor: Agent = importlib.import_module("lram.agents.experts.actors").ActorAgent()
            return actor
        if name == "planner":
            planner: Agent = importlib.import_module("lram.agents.experts.planning").PlanningAgent()
            return planner
        if name == "learner":
            learner: Agent = importlib.import_module("lram.agents.experts.learner").LearnerAgent()
            return learner
        made: Agent = baselines.RandomAgent() if name == "random" else baselines.ScriptedAgent()
        return made
    try:
        number = float(value) if "=" in spec else None
    except ValueError:
        raise AgentError(f"{spec}: {value!r} is no number; write for instance constant=0.5") from None
    constant: Agent = baselines.ConstantAgent(number)
    return constant


def _untrained(name: str, seed: int, compute: Compute) -> Agent:
    from lram.agents.model.network import build_model

    config = parse_preset(name)
    model = build_model(config, seed)
    size = name.rsplit("-", 1)[1]
    description = f"{config.describe()}, {size}, untrained (random weights, seed {seed})"
    return _model_agent(model, trained=False, description=description, compute=compute)


def _checkpoint(spec: str, compute: Compute) -> Agent:
    from lram.agents.checkpoints.folder import load_checkpoint

    model, meta = load_checkpoint(spec)
    state = "trained" if meta.trained else "untrained"
    size = f"{model.parameter_count / 1e6:.1f}M"
    description = f"{meta.config.describe()}, {size}, {state} (checkpoint {Path(spec).resolve().name})"
    return _model_agent(
        model,
        trained=meta.trained,
        description=description,
        compute=compute,
        target_returns=meta.target_returns,
        known=known_tasks(meta.card) if meta.trained else None,
    )


def _model_agent(
    model: ActionModel,
    *,
    trained: bool,
    description: str,
    compute: Compute,
    target_returns: Mapping[str, float] | None = None,
    known: KnownTasks | None = None,
) -> Agent:
    import torch

    from lram.agents.acting.model_agent import ModelAgent
    from lram.agents.checkpoints.folder import model_digest
    from lram.agents.model.rounding import round_model

    # Rounded weights are other weights: the digest is taken after, and the description says so.
    if compute.precision != "float32":
        description = f"{description}, {compute.precision}"
    if compute.narrow is not None:
        round_model(model, compute.narrow)
    elif compute.precision == "bfloat16":
        model = model.to(torch.bfloat16)
    digest = model_digest(model, target_returns)
    return ModelAgent(
        _placed(model, compute.device),
        trained=trained,
        description=description,
        digest=digest,
        target_returns=target_returns,
        known=known or KnownTasks(None),
        compute=compute,
    )


def _placed(model: ActionModel, device: str) -> ActionModel:
    """Return ``model`` on ``device``; AgentError when there is no such device here, or no room on it."""
    where = find_device(device)
    try:
        return model.to(where)
    except RuntimeError as error:
        raise AgentError(refusal(device, error)) from error


def _points() -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def _load_point(point: EntryPoint) -> Any:
    try:
        return point.load()
    except (Exception, SystemExit) as error:  # a package that exits must not take the command with it
        raise AgentError(
            f"entry point {point.name} ({point.value}) cannot be loaded: {_cause(error)}"
        ) from error


def _load_own(spec: str) -> Any:
    parse_arguments(spec)  # before anything of it is run
    module_name, path = split_code(split_call(spec)[0])
    search_first(Path.cwd())
    if module_name.endswith(".py") and (hint := _own_hint(spec)):
        raise AgentError(f"there is no agent {spec!r}; {hint}")
    try:
        target: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise AgentError(f"{spec}: module {module_name} cannot be imported: {_cause(error)}") from error
    for part in path.split("."):
        if not hasattr(target, part):
            where = f" ({file})" if (file := getattr(sys.modules.get(module_name), "__file__", None)) else ""
            raise AgentError(
                f"{spec}: {module_name}{where} has no {path}; check the name after the colon, and whether "
                "that is your module"
            )
        target = getattr(target, part)
    return target


def _call(factory: Any, spec: str, seed: int, compute: Compute, *, bare: bool = False) -> Agent:
    """Return the agent that ``factory`` makes with the arguments in ``spec``; ``bare``: there are none."""
    if isinstance(factory, BackboneSpec):
        raise AgentError(
            f"{spec} is a backbone, and no agent yet; 'lram create --set model.backbone={spec} --set "
            "model.width=64 --set model.layers=2 -o FOLDER' makes an untrained model of it"
        )
    if not callable(factory):
        raise AgentError(f"{spec} is a {type(factory).__name__}, not a callable that returns an agent")
    try:
        return checked_agent(
            call_with(factory, "" if bare else spec, {"seed": seed, **asdict(compute)}), spec
        )
    except (AgentError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise AgentError(f"{spec} failed: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:  # its class may raise there as well
        text = "(its message cannot be read)"
    return shown(f"{type(error).__name__}: {text}", 1000)

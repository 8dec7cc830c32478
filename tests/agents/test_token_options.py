"""Which tokens are in context: every choice acts as it is trained, and the usual one is what it was."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import AgentError, Episode, TaskSpec
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.registry import build_backbone
from lram.agents.backbones.stepping import why_not_fused
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.checkpoints.folder import load_checkpoint, model_digest, save_checkpoint
from lram.agents.checks.contract import IMAGE_TASK, VECTOR_TASK, contract_checks
from lram.agents.checks.equivalence import model_checks
from lram.agents.checks.step import REWARD, Extent
from lram.agents.checks.stream import OWN_REWARD, TOKENS
from lram.agents.compute import Compute
from lram.agents.model.config import ModelConfig, config_from_dict, config_to_dict
from lram.agents.model.network import ActionModel, build_model
from lram.agents.model.presets import parse_preset

RING = TransformerConfig(heads=4, positions="rotary", window=40, cache="ring")
BACKBONES = {
    "xlstm": ModelConfig(32, 2, backbone=XLSTMConfig(slstm_at=(1,))),
    "mamba": ModelConfig(32, 2, backbone=MambaConfig()),
    "transformer, ring": ModelConfig(32, 2, backbone=RING),
    "transformer, full": ModelConfig(32, 2, backbone=replace(RING, cache="full")),
    "transformer, recompute": ModelConfig(32, 2, backbone=replace(RING, window=59, cache="recompute")),
}
OPTIONS = {
    ", ".join(name for name, there in zip(("actions", "returns", "rewards"), chosen, strict=True) if there)
    or "states only": dict(
        zip(("actions_in_context", "returns_in_context", "rewards_in_context"), chosen, strict=True)
    )
    for chosen in itertools.product([False, True], repeat=3)
}
SHORT = Extent(lengths=(40,), decisions=20)
CHOICES = [
    (kind, list(OPTIONS)[number])
    for kind, numbers in {
        "xlstm": range(8),
        "mamba": (0, 7),
        "transformer, ring": (1, 6),
        "transformer, full": (2, 5),
        "transformer, recompute": (3, 4),
    }.items()
    for number in numbers
]
"""Every choice with one backbone; with the others, two that have each kind of token once, and once not."""


def _model(config: ModelConfig) -> ActionModel:
    model = build_model(config, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def _agent(config: ModelConfig, step: str = "torch") -> ModelAgent:
    compute = Compute(step=step)  # type: ignore[arg-type]
    return ModelAgent(_model(config), trained=False, description="test", digest="", compute=compute)


@pytest.mark.parametrize(("kind", "choice"), CHOICES)
def test_every_choice_of_tokens_acts_as_it_is_trained(kind: str, choice: str) -> None:
    options = OPTIONS[choice]
    checks = model_checks(_agent(replace(BACKBONES[kind], **options)), SHORT)
    assert not [check for check in checks if check.status == "failed"]
    skipped = {check.name for check in checks if check.status == "skipped"}
    assert skipped == (set() if options["rewards_in_context"] else {REWARD, OWN_REWARD})
    kinds = {check.subject.split(",")[0] for check in checks if check.name == TOKENS}
    names = {"actions_in_context": "actions", "returns_in_context": "returns-to-go"}
    names["rewards_in_context"] = "rewards"
    assert kinds == {"observations"} | {name for option, name in names.items() if options[option]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "choice"), [one for one in CHOICES if one[0] in {"xlstm", "mamba", "transformer, ring"}]
)
def test_fused_steps_read_every_choice_of_tokens(kind: str, choice: str) -> None:
    config = replace(BACKBONES[kind], **OPTIONS[choice])
    if reason := why_not_fused(build_backbone(config)):
        pytest.skip(reason)
    checks = model_checks(_agent(config, step="fused"), SHORT)
    assert not [check for check in checks if check.status == "failed"]


# None and all of the tokens with both tasks beside each other, others with either by turns.
@pytest.mark.slow
@pytest.mark.parametrize(("number", "choice"), list(enumerate(OPTIONS)), ids=OPTIONS)
def test_every_choice_of_tokens_keeps_the_agents_contract(number: int, choice: str) -> None:
    tasks = (VECTOR_TASK, IMAGE_TASK)
    if number not in (0, len(OPTIONS) - 1):
        tasks = tasks[number.bit_count() % 2 :][:1]
    checks = contract_checks(_agent(replace(BACKBONES["xlstm"], **OPTIONS[choice])), tasks)
    assert {check.status for check in checks} == {"passed"}


@pytest.mark.parametrize(("name", "blinded"), [("returns_in_context", 1), ("rewards_in_context", 2)])
def test_a_number_that_is_not_in_context_changes_nothing(name: str, blinded: int) -> None:
    generator = torch.Generator().manual_seed(2)
    inputs = [
        torch.randn(2, 5, 204, generator=generator),
        torch.randn(2, 5, generator=generator),
        torch.randn(2, 5, generator=generator),
    ]
    other = list(inputs)
    other[blinded] = -other[blinded]
    for there in (True, False):
        model = _model(replace(BACKBONES["xlstm"], **{name: there}))
        with torch.no_grad():
            same = torch.equal(model(*inputs).logits, model(*other).logits)
        assert same is not there


def test_without_returns_the_action_is_read_at_the_state() -> None:
    model = _model(replace(BACKBONES["mamba"], returns_in_context=False))
    with torch.no_grad():
        read = model(torch.randn(1, 4, 204), torch.zeros(1, 4), torch.randn(1, 4))
        hidden = read.hidden.view(1, 4, 2, 32)  # state, reward
        assert torch.equal(read.logits, model.action_logits(hidden[:, :, 0]))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_tokens_of_a_pass_are_counted(options: dict[str, bool]) -> None:
    config = replace(BACKBONES["mamba"], **options)
    numbers = torch.zeros(3)
    classes = torch.zeros(3, 8, dtype=torch.int64) if config.actions_in_context else None
    tokens = _model(config).decision_tokens(torch.zeros(3, 32), numbers, numbers, classes)
    assert tokens.shape == (3, config.pass_tokens, 32)
    expected = 1 + 8 * config.actions_in_context + config.returns_in_context + config.rewards_in_context
    assert config.pass_tokens == expected


def test_tokens_that_are_not_there_have_no_weights() -> None:
    config = replace(BACKBONES["xlstm"], returns_in_context=False, rewards_in_context=False)
    names = build_model(config, 0).state_dict().keys()
    assert not [name for name in names if "return_to_go" in name or "reward" in name or "action" in name]


def test_only_a_model_that_reads_returns_needs_one_to_ask_for() -> None:
    task = replace(VECTOR_TASK, target_return=None)
    with_returns = _agent(BACKBONES["mamba"])
    assert "no target return" in (with_returns.refuses(task) or "")
    without = _agent(replace(BACKBONES["mamba"], returns_in_context=False))
    assert without.refuses(task) is None
    assert without.refuses(replace(IMAGE_TASK, target_return=None)) is None

    def first_actions(task: TaskSpec) -> np.ndarray:
        state = without.start(1)
        without.reset(state, [0], [Episode(task, 0)])
        actions, _ = without.act(state, [np.ones(39, np.float32)], [0.0], [0])
        return np.asarray(actions[0])

    assert np.array_equal(first_actions(task), first_actions(VECTOR_TASK))


def test_a_checkpoint_keeps_its_tokens(tmp_path: object) -> None:
    config = replace(BACKBONES["mamba"], returns_in_context=False, rewards_in_context=False)
    model = _model(config)
    folder = f"{tmp_path}/checkpoint"
    save_checkpoint(folder, model, config, trained=False, card={})
    loaded, meta = load_checkpoint(folder)
    assert meta.config == config
    assert meta.digest == model_digest(loaded) == model_digest(model)


def test_the_usual_tokens_are_not_written_so_that_digests_stay() -> None:
    config = parse_preset("xlstm[7:1]-1M")
    plain = config_to_dict(config)
    assert "returns_in_context" not in plain
    assert "rewards_in_context" not in plain
    assert config_from_dict(plain) == config
    changed = replace(config, rewards_in_context=False)
    assert config_to_dict(changed)["rewards_in_context"] is False
    assert config_from_dict(config_to_dict(changed)) == changed


@pytest.mark.parametrize(
    ("config", "digest"),
    [
        (
            ModelConfig(8, 2, backbone=XLSTMConfig(slstm_at=(1,))),
            "50f1d0f2ad9b868fbb8eb6ecd32e64220f9900a3dce059b3c43a74a96110942a",
        ),
        (
            ModelConfig(8, 1, backbone=MambaConfig(), actions_in_context=True),
            "a875949bc66403b5ca3d3b90469e982aa83a72bad465df06cbe740be0e24a4ae",
        ),
    ],
)
def test_digests_are_those_from_before_there_was_a_choice(config: ModelConfig, digest: str) -> None:
    model = build_model(config, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    assert model_digest(model) == digest


def test_the_description_tells_unusual_tokens() -> None:
    config = BACKBONES["mamba"]
    assert config.describe() == "Mamba"
    other = replace(config, actions_in_context=True, returns_in_context=False, rewards_in_context=False)
    assert other.describe() == "Mamba, with actions in context, without returns-to-go, without rewards"
    details = dict(_agent(other).info.details)
    assert details["actions in context"] == "true"
    assert details["returns in context"] == details["rewards in context"] == "false"


def test_a_misspelt_choice_is_refused() -> None:
    plain = {**config_to_dict(BACKBONES["mamba"]), "return_in_context": False}
    with pytest.raises(AgentError, match="no field return_in_context"):
        config_from_dict(plain)

"""Every backbone against outputs recorded from the reference implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lram.agents.checkpoints.reference import from_reference, our_name
from lram.agents.model.network import action_loss, build_model

NAMES = ["tiny_xlstm_m", "tiny_xlstm_ms", "tiny_dt", "tiny_mamba"]
RECURRENT = ["tiny_xlstm_m", "tiny_xlstm_ms", "tiny_mamba"]
Load = Callable[[str], Any]


def _inputs(arrays: dict[str, torch.Tensor], part: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        arrays[f"{part}.states"],
        arrays[f"{part}.returns_to_go"][..., 0],
        arrays[f"{part}.rewards"][..., 0],
    )


@pytest.mark.parametrize("observation", ["vec", "img"])
@pytest.mark.parametrize("name", NAMES)
def test_forward_loss_and_gradients_equal_the_reference(golden: Load, name: str, observation: str) -> None:
    g, part = golden(name), f"io_{observation}"
    prediction = g.model(*_inputs(g.arrays, part))
    expected = g.arrays[f"{part}.out_action_logits"]
    torch.testing.assert_close(prediction.logits[:, :, : expected.shape[2]], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        prediction.hidden, g.arrays[f"{part}.out_last_hidden_state"], rtol=0, atol=1e-5
    )

    mask = g.arrays[f"{part}.attention_mask"].unsqueeze(-1) & g.arrays[f"{part}.action_mask"]
    loss = action_loss(prediction.logits, g.arrays[f"{part}.target_tokens"], mask)
    assert loss.item() == pytest.approx(float(g.arrays[f"{part}.loss"]), abs=1e-5)

    loss.backward()  # type: ignore[no-untyped-call]
    norms = {name: p.grad.norm().item() for name, p in g.model.named_parameters() if p.grad is not None}
    recorded = g.facts["gradient_norms"][observation]["per_param_norm"]
    expected_norms = {our_name(name): norm for name, norm in recorded.items() if norm is not None}
    assert norms == pytest.approx(expected_norms, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("observation", ["vec", "img"])
@pytest.mark.parametrize("name", NAMES)
def test_acting_with_true_rewards_equals_the_reference(golden: Load, name: str, observation: str) -> None:
    """One pass r_{t-1} s_t g_t a decision; the reference's steps with the true reward of each step."""
    g, part = golden(name), f"step_{observation}"
    observations, returns_to_go, rewards = _inputs(g.arrays, part)
    key = "step_true_reward_action_logits" if name in RECURRENT else "parallel_action_logits"
    expected = g.arrays[f"{part}.{key}"]  # (B, T, A, 274)
    with torch.inference_mode():
        state = g.model.backbone.initial_state(2)
        encoded = g.model.encoders.observation(observations)
        for t in range(observations.shape[1]):
            last = rewards[:, t - 1] if t else torch.full((2,), 123.0)  # must not be read at t = 0
            x = g.model.decision_tokens(encoded[:, t], returns_to_go[:, t], last)
            valid = torch.tensor([[t > 0, True, True]] * 2)
            hidden, state = g.model.backbone.step(x, state, valid)
            logits = g.model.action_logits(hidden[:, -1])[:, : expected.shape[2]]
            torch.testing.assert_close(logits, expected[:, t], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", RECURRENT)
def test_states_after_an_episode_equal_the_reference(golden: Load, name: str) -> None:
    g = golden(name)
    observations, returns_to_go, rewards = _inputs(g.arrays, "step_vec")
    encode = g.model.encoders
    with torch.inference_mode():
        tokens = [
            encode.observation(observations),
            encode.scalar(encode.return_to_go, returns_to_go),
            encode.scalar(encode.reward, rewards),
        ]
        x = encode.norm(torch.stack(tokens, dim=2)).flatten(1, 2)
        hidden, state = g.model.backbone.step(x, g.model.backbone.initial_state(2))
    torch.testing.assert_close(
        hidden, g.arrays["step_vec.step_true_reward_hidden"].flatten(1, 2), rtol=0, atol=1e-5
    )
    recorded = {k.split("final_state.")[1]: v for k, v in g.arrays.items() if "final_state." in k}
    for block, ours in enumerate(state):
        if name == "tiny_mamba":
            expected = [recorded[f"{block}.1"], recorded[f"{block}.0"].transpose(1, 2)[:, 1:]]
        elif f"block_{block}.slstm_state" in recorded:
            conv = recorded[f"block_{block}.conv_state.0"][:, 1:]
            expected = [*recorded[f"block_{block}.slstm_state"].unbind(0), conv]
        else:
            c, n, m = (recorded[f"block_{block}.mlstm_state.{i}"] for i in range(3))
            expected = [c, n.squeeze(-1), m.flatten(1), recorded[f"block_{block}.conv_state.0"][:, 1:]]
        for mine, theirs in zip(ours, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_are_spread_as_in_the_reference(golden: Load, name: str) -> None:
    g = golden(name)
    recorded = {our_name(name): value for name, value in g.facts["initial"].items()}
    for parameter, tensor in build_model(g.config, seed=3).named_parameters():
        mean, std = recorded[parameter]["mean"], recorded[parameter]["std"]
        # Five standard errors of the difference of two draws; exact where nothing is random.
        slack = 5 * 2**0.5 * std / tensor.numel() ** 0.5 + 1e-6
        assert tensor.mean().item() == pytest.approx(mean, abs=slack), parameter
        assert tensor.std().item() == pytest.approx(std, abs=slack), parameter


def test_weights_of_the_cuda_slstm_are_brought_into_order(golden: Load) -> None:
    g = golden("tiny_xlstm_ms")
    cell = "blocks.1.xlstm.slstm_cell."
    kernel = g.model.state_dict()[f"backbone.{cell}_recurrent_kernel_"]  # (NH, 4 DH, DH)
    bias = g.model.state_dict()[f"backbone.{cell}_bias_"]
    heads, _, width = kernel.shape
    wrapped = {
        f"_orig_mod.module.encoder.layers.{cell}_recurrent_kernel_": kernel.view(heads, 4, width, width)
        .permute(0, 3, 1, 2)
        .reshape(heads, width, 4 * width),
        f"_orig_mod.module.encoder.layers.{cell}_bias_": bias.view(4, heads, width)
        .transpose(0, 1)
        .reshape(-1),
    }
    back = from_reference(wrapped, "xlstm")
    torch.testing.assert_close(back[f"backbone.{cell}_recurrent_kernel_"], kernel, rtol=0, atol=0)
    torch.testing.assert_close(back[f"backbone.{cell}_bias_"], bias, rtol=0, atol=0)

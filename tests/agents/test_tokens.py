"""Actions as classes: exact against the reference's tokeniser, and unbiased where we differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lram.agents.backbones.mamba import MambaConfig
from lram.agents.model.config import ModelConfig
from lram.agents.model.encoders import Encoders
from lram.agents.model.tokens import ACTION_DIMS, BINS, CLASSES, action_to_classes, classes_to_action

REFERENCE = np.load(Path(__file__).parents[1] / "data" / "golden" / "tokenizer.npz")


def test_classes_equal_the_reference_also_one_ulp_beside_every_bin_edge() -> None:
    np.testing.assert_array_equal(action_to_classes(REFERENCE["x"]), REFERENCE["tokens"])


def test_lower_edges_equal_the_reference_for_every_class_discrete_ones_included() -> None:
    decoded = classes_to_action(np.arange(CLASSES), "lower")
    np.testing.assert_array_equal(decoded, REFERENCE["of_token"].astype(np.float32))


def test_centers_are_unbiased_and_inside_half_a_bin() -> None:
    actions = np.linspace(-1, 1, 100_001, dtype=np.float32)
    error = classes_to_action(action_to_classes(actions)) - actions
    assert abs(error.mean()) < 1e-5
    assert np.abs(error).max() <= 1 / BINS + 1e-6


@pytest.mark.parametrize("decode", ["center", "lower"])
def test_a_decoded_class_is_read_back_as_itself(decode: str) -> None:
    bins = np.arange(CLASSES - BINS, CLASSES)
    decoded = classes_to_action(bins, "lower" if decode == "lower" else "center")
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(action_to_classes(decoded), bins)
    assert np.abs(decoded).max() <= 1


def test_actions_beyond_the_range_take_the_outer_bins() -> None:
    np.testing.assert_array_equal(action_to_classes([-7.0, 1.0, 7.0]), [18, 273, 273])
    assert action_to_classes(np.zeros((2, ACTION_DIMS))).shape == (2, ACTION_DIMS)


def test_three_windows_of_64_states_of_width_64_are_no_image() -> None:
    encoders = Encoders(ModelConfig(16, 1, state_width=64, backbone=MambaConfig()))
    assert encoders.observation(torch.zeros(3, 64, 64)).shape == (3, 64, 16)
    assert encoders.observation(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape == (2, 16)

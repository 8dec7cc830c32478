"""Energy of a GPU: NVML's counter, read for the device that is meant, or the reason why it is not read."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lram.harness.errors import LramError
from lram.harness.timing.energy import Energy, EnergyMeter

GPU = torch.device("cuda:1")


class Nvml:
    """A driver's library with one GPU, whose counter is at ``millijoules``."""

    def __init__(self, **codes: int) -> None:
        self.codes, self.millijoules, self.asked = codes, 0, b""

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return self.codes.get("init", 0)

    def nvmlDeviceGetHandleByUUID(self, identity: bytes, handle: Any) -> int:  # noqa: N802
        self.asked = identity
        handle._obj.value = 77
        return self.codes.get("find", 0)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: ctypes.c_void_p, value: Any) -> int:  # noqa: N802
        assert handle.value == 77
        value._obj.value = self.millijoules
        return self.codes.get("read", 0)


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=f"id-{device.index}")
    )


def test_joules_since_the_beginning_of_the_device_that_is_meant() -> None:
    nvml = Nvml()
    meter = EnergyMeter(GPU, nvml)
    assert nvml.asked == b"GPU-id-1"
    nvml.millijoules = 5000
    meter.reset()
    nvml.millijoules = 7500
    found = meter.energy()
    assert (found.joules, found.why_not) == (2.5, "")
    assert found.seconds > 0


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        ({"init": 9}, "nvmlInit_v2 ended with 9"),
        ({"find": 2}, "ByUUID ended with 2"),
        ({"read": 3}, "3"),
    ],
)
def test_a_counter_that_cannot_be_read_is_told(codes: dict[str, int], told: str) -> None:
    meter = EnergyMeter(GPU, Nvml(**codes))
    meter.reset()
    assert meter.energy().joules == 0
    assert told in meter.energy().why_not
    assert meter.energy().why_not.startswith("energy is not read: ")


def test_of_a_processor_nothing_is_read_and_nothing_is_said() -> None:
    meter = EnergyMeter(torch.device("cpu"))
    meter.reset()
    assert meter.energy() == Energy()


def test_a_longer_measurement_may_take_more_decisions() -> None:
    from lram.harness.cli.latency import _effort
    from lram.harness.latency.records import Effort

    assert _effort(Effort(), None) == Effort()
    assert (_effort(Effort(), 1.2).seconds, _effort(Effort(), 1.2).most) == (1.2, 400)
    assert _effort(Effort(), 0.1).most == 200
    with pytest.raises(LramError, match="--seconds must be above 0, not nan"):
        _effort(Effort(), float("nan"))

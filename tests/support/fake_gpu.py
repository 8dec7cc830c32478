"""A GPU that is not there: tensors that say ``cuda`` and hold no numbers, and a log of what is copied.

``torch._subclasses.fake_tensor`` computes shapes, types and devices only. So an operation on tensors of two
devices fails, and so does whatever needs a number on the host: ``.item()``, ``bool(tensor)``, ``nonzero``,
indexing by a mask. :class:`Copies` writes down every copy between host and device.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("cuda:0")

_REGISTRY, _CUDA, _META = "_ZN3c104impl26device_guard_impl_registryE", 1, 14


def _guard() -> None:
    """Let PyTorch built without CUDA take ``cuda`` as a device that needs nothing, like ``meta``."""
    library = Path(torch.__file__).parent / "lib" / "libc10.so"
    try:
        registry = (ctypes.c_void_p * (_META + 1)).in_dll(ctypes.CDLL(str(library)), _REGISTRY)
    except (OSError, ValueError) as error:
        pytest.skip(f"this PyTorch cannot pretend that there is a GPU: {error}")
    if not registry[_CUDA]:
        registry[_CUDA] = registry[_META]


@dataclass
class Copies(TorchDispatchMode):
    """What was copied between host and device, an entry a copy.

    Attributes:
        to_host: From the device, waited for.
        asked: From the device into page-locked memory, not waited for.
        to_device: From the host, out of page-locked memory.
        waiting: From the host, out of other memory, or waited for.
    """

    to_host: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    to_device: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._locked: dict[int, Tensor] = {}

    def clear(self) -> None:
        """Forget what was copied."""
        for log in (self.to_host, self.asked, self.to_device, self.waiting):
            log.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if kwargs.get("pin_memory"):
            self._locked[result.untyped_storage()._cdata] = result  # kept, so that no other takes its number
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        name, there = str(func), {one.device.type for one in given if one.dim()}
        if name.startswith("aten.copy_"):
            self._note(name, given[1], given[0], kwargs.get("non_blocking", any(one is True for one in args)))
        elif len(there) > 1:
            self.waiting.append(name)  # such as an index that is on the host
        elif given and isinstance(result, Tensor):
            self._note(name, given[0], result, kwargs.get("non_blocking", any(one is True for one in args)))
        return result

    def _note(self, name: str, source: Tensor, target: Tensor, at_once: Any) -> None:
        if source.device.type == target.device.type:
            return
        if target.device.type == "cpu":
            locked = target.untyped_storage()._cdata in self._locked
            (self.asked if at_once and locked else self.to_host).append(name)
        elif at_once and source.untyped_storage()._cdata in self._locked:
            self.to_device.append(name)
        else:
            self.waiting.append(name)


class _Numbers(TorchFunctionMode):
    """Lets the host read and write numbers of what it has; at first, and of what was copied to it, zeros."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[Tensor, Any]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.numpy and isinstance(args[0], FakeTensor):
            assert args[0].device.type == "cpu", "numbers are read on the device"
            if id(args[0]) not in self._made:
                numbers = np.zeros(args[0].shape, str(args[0].dtype).removeprefix("torch."))
                self._made[id(args[0])] = args[0], numbers  # the tensor, too, so that no other has its number
            return self._made[id(args[0])][1]
        return func(*args, **(kwargs or {}))


@contextmanager
def fake_gpu() -> Iterator[Copies]:
    """Let tensors be fake here; what was copied is yielded."""
    _guard()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.backends.cudnn, "is_acceptable", lambda tensor: False)
        with FakeTensorMode(allow_non_fake_inputs=True), Copies() as copies, _Numbers():
            yield copies

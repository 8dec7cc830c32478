"""The other side of ``lerobot:FOLDER``: a script that a Python with LeRobot runs, without lram-bench.

It is given one end of a socket, loads a policy as the first message says, and then answers questions until
the socket is closed. A message is a frame: the bytes of a JSON text and of arrays as two big-endian uint32,
the text, and the arrays one after the other in C order. The text has their types and shapes under
``arrays``. Nothing is pickled.

Each lane has a policy of its own: a copy that shares the weights, made when its episode begins, with its own
queues of observations and actions and its own draws. A pass holds one lane. So lanes cannot feel each other.

It runs under any Python that LeRobot 0.4 or newer is installed in (3.10 or newer).
"""

from __future__ import annotations

import copy
import json
import math
import os
import random
import socket
import struct
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

LARGEST_TEXT = 1 << 20
LARGEST_ARRAYS = 256 << 20
_SIZES = struct.Struct(">II")
_TYPES = ("<f4", "<f8", "|u1", "<i8")
_MOST_DIMENSIONS = 4

Message: TypeAlias = tuple[dict[str, Any], list[Any]]


class PolicyFrameError(ValueError):
    """What came is no frame; the text completes "it ..."."""


def packed(fields: dict[str, Any], arrays: Sequence[Any] = ()) -> bytes:
    """Return a frame with the JSON object ``fields`` and NumPy ``arrays``."""
    described = [[array.dtype.str, list(array.shape)] for array in arrays]
    text = json.dumps({**fields, "arrays": described}).encode()
    content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    return _SIZES.pack(len(text), len(content)) + text + content


def received(read: Callable[[int], bytes]) -> Message:
    """Return the fields and arrays of the next frame.

    Args:
        read: Returns just so many bytes.

    Raises:
        PolicyFrameError: What came is no frame.
    """
    text_bytes, array_bytes = _SIZES.unpack(read(_SIZES.size))
    if text_bytes > LARGEST_TEXT or array_bytes > LARGEST_ARRAYS:
        raise PolicyFrameError("announces a message of an impossible size")
    try:
        fields = json.loads(read(text_bytes).decode())
        described = fields.pop("arrays")
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError):
        raise PolicyFrameError("sends a message that is no JSON object with arrays") from None
    return fields, list(_arrays(described, read(array_bytes)))


def _arrays(described: Any, content: bytes) -> Iterable[Any]:
    place = 0
    for one in described if isinstance(described, list) else [None]:
        name, shape = one if isinstance(one, list) and len(one) == 2 else (None, None)
        if name not in _TYPES or not isinstance(shape, list) or len(shape) > _MOST_DIMENSIONS:
            raise PolicyFrameError("describes an array that is none")
        if not all(type(size) is int and size >= 0 for size in shape):
            raise PolicyFrameError("describes an array whose shape is none")
        dtype = np.dtype(name)
        size = math.prod(shape) * dtype.itemsize
        if place + size > len(content):
            raise PolicyFrameError("sends fewer bytes than its arrays have")
        yield np.frombuffer(content[place : place + size], dtype).reshape(shape).copy()
        place += size
    if place != len(content):
        raise PolicyFrameError("sends more bytes than its arrays have")


class LaneDraws:
    """The state of every generator that a policy may draw from: Python's, NumPy's and PyTorch's."""

    def __init__(self, torch: Any, device: str, seed: int) -> None:
        self._torch, self._cuda = torch, device if device.startswith("cuda") else ""
        random.seed(seed)
        np.random.seed(seed % (1 << 32))
        torch.manual_seed(seed % (1 << 63))
        self.keep()

    def keep(self) -> None:
        """Note where the generators stand."""
        self._python, self._numpy, self._torch_state = (
            random.getstate(),
            np.random.get_state(),
            self._torch.get_rng_state(),
        )
        self._cuda_state = self._torch.cuda.get_rng_state(self._cuda) if self._cuda else None

    def go_on(self) -> None:
        """Put the generators where they were noted."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        self._torch.set_rng_state(self._torch_state)
        if self._cuda:
            self._torch.cuda.set_rng_state(self._cuda_state, self._cuda)


class PolicyLane:
    """A policy with its processors and draws, for one episode."""

    def __init__(self, policy: Any, processors: Any, draws: LaneDraws) -> None:
        self.policy, self.processors, self.draws = policy, processors, draws


class LoadedPolicy:
    """What the folder holds, and its copies by state and lane.

    Args:
        order: ``folder``, ``device``, ``threads``, ``processors`` (whether the folder has them) and
            ``images`` (size by name of a feature, to which images are made where they have another).
    """

    def __init__(self, order: dict[str, Any]) -> None:
        import lerobot  # noqa: F401 (a Python without it is refused before torch is loaded)
        import torch
        from lerobot.configs.policies import PreTrainedConfig
        from lerobot.policies.factory import get_policy_class, make_pre_post_processors

        torch.set_num_threads(order["threads"])
        self._torch, self._device, self._sizes = torch, order["device"], order["images"]
        self._lanes: dict[tuple[int, int], PolicyLane] = {}
        folder = order["folder"]
        config = PreTrainedConfig.from_pretrained(folder)
        config.device = self._device
        if hasattr(config, "pretrained_backbone_weights"):
            config.pretrained_backbone_weights = None  # they are among the weights, and would be downloaded
        policy = get_policy_class(config.type).from_pretrained(folder, config=config, strict=True)
        self._policy = policy.to(self._device).eval()
        self._processors: Any = None
        if order["processors"]:
            self._processors = make_pre_post_processors(
                config,
                pretrained_path=folder,
                preprocessor_overrides=self._override(folder, "policy_preprocessor.json", self._device),
                postprocessor_overrides=self._override(folder, "policy_postprocessor.json", "cpu"),
            )

    @staticmethod
    def _override(folder: str, name: str, device: str) -> dict[str, Any]:
        """Return what puts a pipeline on ``device``, whatever it was saved with."""
        with open(os.path.join(folder, name), encoding="utf-8") as file:  # noqa: PTH118, PTH123
            steps = json.load(file).get("steps", [])
        named = any(step.get("registry_name") == "device_processor" for step in steps)
        return {"device_processor": {"device": device}} if named else {}

    def facts(self) -> dict[str, Any]:
        """Return what reports say of the policy and of this interpreter."""
        import lerobot

        parameters = {id(one): one.numel() for one in self._policy.parameters()}
        return {
            "parameters": sum(parameters.values()),
            "python": ".".join(map(str, sys.version_info[:3])),
            "lerobot": str(getattr(lerobot, "__version__", "of an unknown version")),
            "torch": str(self._torch.__version__),
        }

    def reset(self, state: int, lane: int, seed: int) -> None:
        """Give a lane a policy as it was loaded, and begin its draws with ``seed``."""
        # The weights are not copied; buffers are, since a policy may remember something in one.
        memo: dict[int, Any] = {id(one): one for one in self._policy.parameters()}
        policy, processors = copy.deepcopy((self._policy, self._processors), memo)
        policy.reset()
        for one in processors or ():
            one.reset()
        self._lanes[state, lane] = PolicyLane(policy, processors, LaneDraws(self._torch, self._device, seed))

    def act(self, state: int, lane: int, seen: dict[str, Any], task: str) -> Any:
        """Return the action of one lane, float32 (size,)."""
        held = self._lanes[state, lane]
        batch = {name: self._tensor(name, array) for name, array in seen.items()}
        batch.update({"task": task, "robot_type": ""})
        held.draws.go_on()
        with self._torch.inference_mode():
            if held.processors is None:
                action = held.policy.select_action(batch)
            else:
                before, after = held.processors
                action = after(held.policy.select_action(before(batch)))
        held.draws.keep()
        found = action.detach().to("cpu", self._torch.float32).numpy()
        return found[0] if found.ndim == 2 and len(found) == 1 else found

    def drop(self, state: int) -> None:
        """Forget the lanes of a state."""
        for key in [one for one in self._lanes if one[0] == state]:
            del self._lanes[key]

    def state_bytes(self, state: int) -> int:
        """Return the bytes that the lanes of a state hold besides what the loaded policy has."""
        return sum(
            self._held(lane.policy) + lane.draws._torch_state.numel()
            for (one, _), lane in self._lanes.items()
            if one == state
        )

    def _held(self, policy: Any) -> int:
        """Return the bytes of tensors in the attributes of a policy's modules."""
        found: dict[int, int] = {}
        for module in policy.modules():
            waiting = [value for name, value in vars(module).items() if not name.startswith("_parameters")]
            waiting = [value for value in waiting if not isinstance(value, self._torch.nn.Module)]
            while waiting:
                value = waiting.pop()
                if isinstance(value, self._torch.nn.Parameter):
                    continue
                if isinstance(value, self._torch.Tensor):
                    found[id(value)] = value.numel() * value.element_size()
                elif isinstance(value, dict):
                    waiting.extend(
                        one for one in value.values() if not isinstance(one, self._torch.nn.Module)
                    )
                elif isinstance(value, (list, tuple, deque)):
                    waiting.extend(value)
        return sum(found.values())

    def _tensor(self, name: str, array: Any) -> Any:
        tensor = self._torch.from_numpy(array)
        if name in self._sizes:
            tensor = tensor.float().div(255)[None]
            if list(tensor.shape[2:]) != self._sizes[name]:
                tensor = self._torch.nn.functional.interpolate(
                    tensor, size=self._sizes[name], mode="bilinear", align_corners=False, antialias=True
                ).clamp(0, 1)
            return tensor.to(self._device)
        return tensor[None].to(self._device)


def answered(policies: LoadedPolicy, fields: dict[str, Any], arrays: list[Any]) -> Message:
    """Return the answer to one question."""
    for state in fields.get("drop", ()):
        policies.drop(state)
    state = fields.get("state", 0)
    if fields["ask"] == "bytes":
        return {"bytes": policies.state_bytes(state)}, []
    for lane, seed in fields["resets"]:
        policies.reset(state, lane, int(seed))
    names, actions = fields["features"], []
    for number, (lane, task) in enumerate(zip(fields["lanes"], fields["tasks"], strict=True)):
        seen = dict(zip(names, arrays[number * len(names) : (number + 1) * len(names)], strict=True))
        actions.append(policies.act(state, lane, seen, task))
    return {}, actions


def serve(read: Callable[[int], bytes], send: Callable[[bytes], None]) -> None:
    """Load what the first message says, then answer until nothing more comes."""
    policies: LoadedPolicy | None = None
    while True:
        try:
            fields, arrays = received(read)
        except EOFError:
            return
        found: list[Any] = []
        try:
            if policies is None:
                policies = LoadedPolicy(fields)
                answer = policies.facts()
            else:
                answer, found = answered(policies, fields, arrays)
        except Exception as error:
            traceback.print_exc()
            message = " ".join(str(error).split())[:1000]
            absent = error.name if isinstance(error, ModuleNotFoundError) else ""
            answer = {"error": f"{type(error).__name__}: {message}", "absent": absent or ""}
        send(packed(answer, found))


def main() -> None:
    """Serve at the descriptor that the command line names."""
    connection = socket.socket(fileno=int(sys.argv[1]))

    def read(count: int) -> bytes:
        parts = []
        while count:
            part = connection.recv(min(count, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    serve(read, connection.sendall)


if __name__ == "__main__":
    # A script's own folder is first on the path before Python 3.11, and holds modules of common names.
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [one for one in sys.path if os.path.abspath(one or ".") != here]  # noqa: PTH100
    main()

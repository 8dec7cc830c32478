"""The training loop: updates of accumulated micro-batches, metrics, validation, states.

An update reads ``accumulate`` micro-batches; each contributes the gradient of its own mean loss divided
by their number, so that domains count alike however many dimensions their actions have.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from lram.agents.api import AgentError
from lram.agents.backbones.registry import is_from_outside
from lram.agents.backbones.sequences import read_sequences
from lram.agents.model.config import config_to_dict
from lram.agents.model.network import ActionModel
from lram.agents.model.tokens import ACTION_DIMS
from lram.agents.own_code import changed, check_loaded_model, model_code
from lram.agents.own_errors import own_code
from lram.agents.shown import command, few
from lram.agents.training.batches import Batch
from lram.agents.training.distributed import World
from lram.agents.training.loading import Loader, WorkerDiedError
from lram.agents.training.losses import losses, spread_targets
from lram.agents.training.metrics import SUMS, Meter, Sums, batch_sums
from lram.agents.training.optimizer import (
    clip_gradients,
    gradient_norm,
    learning_rate,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
)
from lram.agents.training.recipe import Recipe, recipe_to_dict
from lram.agents.training.sources import TrainingData, labels_of, refuse_other_labels
from lram.agents.training.state import TrainingState, save_state
from lram.agents.training.stopping import StopRequest
from lram.agents.training.validation import validate


class Observer(Protocol):
    """Told what happens while a model is trained; it must not touch the model."""

    def begin(self, trainer: Trainer) -> None:
        """Take note of what is about to be trained."""
        ...

    def update(self, update: int, loss: float, tokens: int) -> None:
        """Take note of an update: its number (from 1), its loss, tokens read by all processes."""
        ...

    def line(self, line: Mapping[str, Any]) -> None:
        """Take note of a line of metrics."""
        ...


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where a trainer's results go; on the process that writes.

    Attributes:
        metrics: Takes each line.
        sync: Has the lines on disk.
        checkpoint: Writes a checkpoint on the way, after the given update.
        observer: See :class:`Observer`.
    """

    metrics: Callable[[Mapping[str, Any]], None]
    sync: Callable[[], None]
    checkpoint: Callable[[int], None]
    observer: Observer


def autocast(recipe: Recipe, device: torch.device) -> AbstractContextManager[Any]:
    """Return what a model is computed under: autocast where the recipe's precision is bfloat16."""
    if recipe.optimizer.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


class Trainer:
    """Trains one model by one recipe.

    Args:
        recipe: What to do.
        run: The run's folder.
        model: The model, on the world's device.
        data: What this process reads.
        world: The processes.
        origin: The checkpoint that training began from; empty for random weights.

    Attributes:
        update: Updates made so far.
        code: SHA-256 by module of the user's own source of the backbone; empty where there is none.
        seconds: How long they took, without interruptions.
    """

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        model: ActionModel,
        data: TrainingData,
        world: World,
        origin: Mapping[str, str],
    ) -> None:
        self.recipe, self.run, self.model, self.data, self.world = recipe, run, model, data, world
        self.origin = origin
        check_loaded_model(config_to_dict(model.config))
        self.code = model_code(config_to_dict(model.config))
        self.update, self.seconds = 0, 0.0
        self.accumulate = recipe.optimizer.accumulate or len(data.windows.cycle)
        self.optimizer = make_optimizer(model, recipe.optimizer)
        targets = spread_targets(recipe.optimizer.bin_smoothing)
        self._targets = None if targets is None else targets.to(world.device)
        self._meter = Meter.empty()
        if recipe.optimizer.compile:
            model.compile()
        self._parallel: nn.Module = world.wrap(model.train())

    def restore(self, state: TrainingState, tensors: Mapping[str, Tensor]) -> None:
        """Continue from a state; AgentError when it is of another model, other code or other data."""
        if state.stores != self.data.digests:
            raise AgentError(
                f"the trajectories of {', '.join(self.recipe.data.stores)} are not those that {self.run} was "
                "trained on; restore them, or start a new run"
            )
        refuse_other_labels(self.run, state.labels, labels_of(self.data))
        if self.code and (modules := changed(state.code, self.code)):
            raise AgentError(
                f"the source of {', '.join(modules)} has changed since {self.run} was trained until update "
                f"{state.update}; put it back, or start a new run"
            )
        if state.processes != self.world.size:
            raise AgentError(
                f"{self.run} was trained by {state.processes} processes and cannot continue with "
                f"{self.world.size}; use as many again, or start a new run"
            )
        left = dict(tensors)
        with torch.no_grad():
            for name, weight in self.model.state_dict().items():
                found = left.pop(f"model.{name}", None)
                if found is None or found.shape != weight.shape:
                    raise AgentError(f"the training state does not fit the model at {name}; start a new run")
                weight.copy_(found)
        restore_optimizer(self.model, self.optimizer, left)
        self.update, self.seconds, self._meter = state.update, state.seconds, state.meter

    def save(self) -> None:
        """Write a training state; AgentError when the system refuses."""
        state = TrainingState(
            update=self.update,
            micro_step=self.update * self.accumulate,
            recipe=recipe_to_dict(self.recipe),
            model=config_to_dict(self.model.config),
            stores=self.data.digests,
            processes=self.world.size,
            origin=self.origin,
            meter=self._meter,
            seconds=self.seconds,
            labels=labels_of(self.data),
            code=self.code,
        )
        weights = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        try:
            save_state(self.run, state, weights | optimizer_tensors(self.model, self.optimizer))
        except OSError as error:
            raise AgentError(
                f"the training state cannot be written to {self.run} ({error.strerror or error}); fix that, "
                f"and continue with '{command('train', '--resume', self.run)}'"
            ) from error

    def train(self, outputs: Outputs, stop: StopRequest) -> bool:
        """Make the updates that are left; return False when ``stop`` was asked for, after saving a state.

        Raises:
            AgentError: The loss or the gradient is no finite number; the states stay as they are.
        """
        saving, updates = self.recipe.saving, self.recipe.optimizer.updates
        first, last = self.update * self.accumulate, updates * self.accumulate
        saved_at = time.monotonic()
        pinned = self.world.device.type == "cuda"
        workers = self.recipe.sampling.workers
        with Loader(self.data.windows, first, last, workers=workers, pin_memory=pinned) as loader:
            batches = iter(loader)
            if self.update == 0:
                self._validate(outputs)
            while self.update < updates:
                began, waited = time.monotonic(), loader.waited
                made = self._make_update(batches, stop)
                if made is None:
                    if self.world.writes:
                        outputs.sync()
                        self.save()
                    return False
                spent = time.monotonic() - began
                self._meter.seconds += spent
                self._meter.waited += loader.waited - waited
                self.seconds += spent
                if self.world.writes:
                    outputs.observer.update(self.update, *made)
                if self._due(saving.metrics_every) or self.update == updates:
                    self._write_metrics(outputs)
                if self._due(self.recipe.validation.every) or self.update == updates:
                    self._validate(outputs)
                if not self.world.writes:
                    continue
                if self._due(saving.checkpoint_updates) and self.update < updates:
                    outputs.checkpoint(self.update)
                late = time.monotonic() - saved_at >= saving.state_seconds
                if late or self._due(saving.state_updates) or self.update == updates:
                    outputs.sync()  # a state must not be ahead of its curve
                    self.save()
                    saved_at = time.monotonic()
        return True

    def _due(self, every: int) -> bool:
        return bool(every) and self.update % every == 0

    def _make_update(self, batches: Iterator[Batch], stop: StopRequest) -> tuple[float, int] | None:
        """Make one update; return its loss and tokens, or None when it was given up because of ``stop``."""
        read: list[Batch] = []
        found: list[Tensor] = []
        self.optimizer.zero_grad(set_to_none=True)
        for number in range(self.accumulate):
            if stop.asked and self.world.size == 1:
                return None
            try:
                batch = self._next(batches)
            except WorkerDiedError:
                # What ends the trainer may have ended its workers, too: this update has changed nothing yet.
                if stop.asked and self.world.size == 1:
                    return None
                raise
            more = number + 1 < self.accumulate
            micro_step = self.update * self.accumulate + number
            with self.world.accumulating(self._parallel, more):
                sums = self._gradient(batch, micro_step)
            found.append(torch.cat([sums, batch.lengths.sum().to(sums)[None]]))
            read.append(batch)
        asked = torch.tensor([float(stop.asked)], dtype=torch.float64, device=self.world.device)
        measured = gradient_norm(self.model)
        summed = self.world.sum(torch.cat([torch.stack(found).flatten(), asked]))
        # All that the host asks of an update, in one copy.
        *totals, norm, squares = torch.cat([summed, measured.to(summed)]).tolist()
        if totals[-1] and self.world.size > 1:
            return None
        each = len(SUMS) + 1  # the last one: timesteps
        rows = [totals[start : start + each] for start in range(0, len(totals) - 1, each)]
        for batch, row in zip(read, rows, strict=True):
            if not math.isfinite(row[1]):
                raise AgentError(self._not_finite("loss", [batch]))
        norm = clip_gradients(self.model, self.recipe.optimizer.clip, measured, (norm, squares))
        if not math.isfinite(norm):
            raise AgentError(self._not_finite("gradient", read))
        set_learning_rate(self.optimizer, learning_rate(self.update, self.recipe.optimizer))
        self.optimizer.step()
        self.update += 1
        return self._measure(read, rows, norm)

    def _next(self, batches: Iterator[Batch]) -> Batch:
        return next(batches).to(self.world.device, non_blocking=True)

    def _gradient(self, batch: Batch, micro_step: int) -> Tensor:
        """Add the gradient of a micro-batch; return its sums (4,) of ``SUMS`` on this process."""
        world = self.world
        drawn = seeded(self.recipe.seed, micro_step, world.rank, world.device)
        with drawn, autocast(self.recipe, world.device):
            logits = self._predict(self._parallel, batch)
        loss, cross_entropy = losses(logits, batch.classes, batch.mask, self._targets)
        sums = batch_sums(logits.detach(), batch, cross_entropy.detach())
        loss = loss / self.accumulate
        if self.world.size > 1:
            # DDP takes the mean over processes, and theirs differ in how many pairs they hold.
            pairs = self.world.sum(sums[0].clone())
            loss = loss * (sums[0] / pairs * self.world.size).float()
        with self._own_code():
            torch.autograd.backward(loss)
        return sums

    def _predict(self, model: nn.Module, batch: Batch) -> Tensor:
        actions = batch.classes if self.model.config.actions_in_context else None
        with read_sequences(self.recipe.optimizer.sequences), self._own_code():
            logits: Tensor = model(batch.observations, batch.returns_to_go, batch.rewards, actions).logits
        return logits

    def _own_code(self) -> AbstractContextManager[Any]:
        """Turn what a backbone from outside raises into one sentence."""
        config = self.model.config
        if not is_from_outside(config.spec):
            return nullcontext()
        return own_code(
            f"training into {self.run} ended in the backbone {config.kind}",
            f"fix its code, and continue with '{command('train', '--resume', self.run)}'",
        )

    def _measure(
        self, read: Sequence[Batch], rows: Sequence[Sequence[float]], norm: float
    ) -> tuple[float, int]:
        meter = self._meter
        for batch, row in zip(read, rows, strict=True):
            meter.domains.setdefault(batch.domain, Sums()).add(row[:-1])
        loss = math.fsum(row[1] / row[0] for row in rows) / len(rows)
        timesteps = sum(int(row[-1]) for row in rows)
        tokens = sum(int(row[-1]) * self._tokens(batch) for batch, row in zip(read, rows, strict=True))
        meter.updates += 1
        meter.loss += loss
        meter.gradient_norm += norm
        meter.timesteps += timesteps
        meter.tokens += tokens
        return loss, tokens

    def _tokens(self, batch: Batch) -> int:
        config = self.model.config
        if not config.actions_in_context:
            return config.pass_tokens
        return config.pass_tokens - ACTION_DIMS + batch.classes.shape[-1]

    def _write_metrics(self, outputs: Outputs) -> None:
        meter = self._meter
        line = {
            "kind": "train",
            "update": self.update,
            "learning_rate": learning_rate(self.update - 1, self.recipe.optimizer),
            **meter.line(),
            "timesteps": meter.timesteps,
            "time": {
                "seconds": self.seconds,
                "tokens_per_second": meter.tokens / meter.seconds,
                "waiting_share": min(meter.waited / meter.seconds, 1.0),
            },
        }
        self._meter = Meter.empty()
        if self.world.writes:
            outputs.metrics(line)
            outputs.observer.line(line)

    def _validate(self, outputs: Outputs) -> None:
        if not len(self.data.validation):
            return

        def predict(batch: Batch) -> Tensor:
            with autocast(self.recipe, self.world.device):
                return self._predict(self.model, batch)

        began = time.monotonic()
        context = self.recipe.sampling.context
        self.model.eval()  # nothing is dropped out
        found = validate(predict, self.data.validation, self.data.windows.tasks, context, self.world)
        self.model.train()
        if self.world.writes:
            line = {
                "kind": "validation",
                "update": self.update,
                **found,
                "time": {"seconds": time.monotonic() - began},
            }
            outputs.metrics(line)
            outputs.observer.line(line)

    def _not_finite(self, what: str, batches: Sequence[Batch]) -> str:
        table = self.data.windows.tasks
        names = sorted({table[index].id for batch in batches for index in batch.tasks.tolist()})
        domains = ", ".join(dict.fromkeys(batch.domain for batch in batches))
        return (
            f"the {what} of update {self.update + 1} is no finite number (domain {domains}; tasks "
            f"{few(names)}): training ended, and the last states are in {self.run / 'state'}; lower "
            "optimizer.learning_rate, or look at those tasks' trajectories"
        )


@contextmanager
def seeded(seed: int, micro_step: int, rank: int, device: torch.device) -> Iterator[None]:
    """Let what a model draws while it is trained, such as dropout, follow from these numbers only.

    So a run that is resumed needs no generator's state. Torch's own generators are left as they were.
    """
    drawn = np.random.SeedSequence((seed, _DROPOUT, micro_step, rank)).generate_state(1, np.uint64)
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        # torch.manual_seed would seed all GPUs' generators, of which fork_rng then restores one.
        torch.default_generator.manual_seed(int(drawn[0]))
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(int(drawn[0]))
        yield


_DROPOUT = 3  # a stream of its own beside those of windows


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Let PyTorch compute the same bits each time, on a processor, while this lasts."""
    before = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    new_memory: Any = torch.utils.deterministic  # typed as a module, which has no such attribute
    filled = new_memory.fill_uninitialized_memory
    torch.set_num_threads(threads)
    if not torch.cuda.is_available():  # a GPU has no such form of every function that models use
        torch.use_deterministic_algorithms(True)
        # It would fill each new tensor with NaN, which takes 3 to 11% of an update; no result depends
        # on it as long as nothing is read before it is written (tests/agents/test_training_forms.py).
        new_memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(strict)
        new_memory.fill_uninitialized_memory = filled

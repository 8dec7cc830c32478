"""The formats: how a small sample of each is written, and what reads it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import h5py
import msgspec
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from lram.agents.api import AgentError
from lram.agents.checkpoints.description import read_card
from lram.agents.checkpoints.folder import load_checkpoint, save_checkpoint
from lram.agents.checkpoints.importing import import_checkpoint
from lram.agents.factory import create_agent
from lram.agents.model.config import config_from_dict, config_to_dict
from lram.agents.model.network import ActionModel, build_model
from lram.agents.model.presets import parse_preset
from lram.agents.training.folder import check_recipe_text, recipe_of, signed_recipe
from lram.agents.training.metrics import Meter
from lram.agents.training.recipe import recipe_to_dict
from lram.agents.training.recipe_text import read_recipe, render_recipe
from lram.agents.training.sinks import read_metrics
from lram.agents.training.state import TrainingState, load_state, save_state
from lram.agents.trajectories import StoreWriter, TrajectoryStore
from lram.agents.trajectories.readers import Options
from lram.agents.trajectories.rebuilding import rebuild
from lram.agents.trajectories.verification import verified
from lram.envs.errors import SelectionError
from lram.harness.collection.importing import ImportTasks, import_data
from lram.harness.collection.info import describe_store
from lram.harness.errors import LramError
from lram.harness.interpreters.folder import installed, places
from lram.harness.interpreters.state import state
from lram.harness.latency import inputs
from lram.harness.latency.folder import LatencyRun
from lram.harness.storage.run_folder import Run
from lram.harness.studies.cells import cells_of
from lram.harness.studies.folder import StudyFolder
from lram.harness.studies.precision.folder import PrecisionFolder
from lram.harness.studies.study import read_study, shipped_studies
from lram.reports import load_trainings, summarise
from lram.reports.sections.registry import load_folders, make_sections

TESTS = Path(__file__).parents[2]
EPISODES, STEPS = 2, 12


@dataclass
class Reading:
    """What readers said of a folder.

    Attributes:
        sentences: Why something was not read.
        lost: What should have been read and was not, in words.
    """

    sentences: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @contextmanager
    def refused(self) -> Iterator[None]:
        """Take a refusal for an answer."""
        try:
            yield
        except (LramError, AgentError, SelectionError) as error:
            self.sentences.append(str(error))


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        name: For tables.
        make: Writes a sample into a folder that is there.
        read: Reads it, with everything in lram that does.
        pattern: Files that are damaged, by a glob in the sample's folder.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path, Reading], None]
    pattern: str = "**/*"


def _module(name: str, folder: str) -> ModuleType:
    """Return a module of the tests, which is no package's."""
    known = f"fuzz_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, TESTS / folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


# Trajectories


def _make_store(folder: Path) -> None:
    made = _module("test_trajectories", "agents").made
    lives = _module("test_trajectories", "agents").DISCRETE
    with StoreWriter(folder / "store", {"made_by": "a test"}) as writer:
        for seed in range(EPISODES):
            writer.append(made(length=STEPS, seed=seed, success=np.arange(STEPS) > STEPS - 3))
        writer.commit()
        for seed in range(EPISODES):
            writer.append(made(lives, length=70, seed=seed, context_starts=(0, 30)))


def _read_store(folder: Path, reading: Reading) -> None:
    path = folder / "store"
    with reading.refused():
        store = TrajectoryStore(path)
        for episode in store.episodes:
            with reading.refused():
                store.window(episode.number, 0, episode.length)
                store.trajectory(episode.number)
                store.actions(episode.number)
                store.record(episode.number)
        store.trajectory_digests(range(len(store)))
    with reading.refused():
        describe_store(path)
    with reading.refused():
        reading.sentences += verified(path).bad
    with reading.refused():
        _import(folder, path, reading, expected=0)
    with reading.refused():
        made = rebuild(path)
        reading.sentences += made.damaged
        verified(path)


def _import(folder: Path, source: Path, reading: Reading, expected: int, task: str | None = None) -> None:
    options = Options(limit=None)
    with reading.refused():
        own = ImportTasks(task, reward_scale=1.0) if task else ImportTasks()
        report = import_data(source, folder / "imported", own, options, skip_bad=True)
        reading.sentences += report.problems
        if report.episodes < expected:
            reading.lost.append(f"{expected} sound episodes, and {report.episodes} were imported")
        return
    if expected:
        reading.lost.append(f"{expected} sound episodes, and none was imported: {reading.sentences[-1]}")


def _source(name: str, write: Callable[[Path], None], task: str | None = None) -> Format:
    """Return the format of a data set: two of a kind lie side by side, and the first is damaged."""

    def make(folder: Path) -> None:
        for place in ("a", "b"):
            (folder / "raw" / place).mkdir(parents=True)
            write(folder / "raw" / place)

    def read(folder: Path, reading: Reading) -> None:
        _import(folder, folder / "raw", reading, EPISODES, task)
        with reading.refused():
            _import(folder / "alone", folder / "raw/a", reading, 0, task)

    return Format(name, make, read, "raw/a/**/*")


def _hostile(name: str) -> Callable[[h5py.File], object]:
    return getattr(_module("test_hostile_data", "agents"), name)  # type: ignore[no-any-return]


def _minari(folder: Path) -> None:
    data = folder / "set-v0" / "data"
    data.mkdir(parents=True)
    with h5py.File(data / "main_data.hdf5", "w") as file:
        _hostile("minari")(file)
    space = {"type": "Box", "low": [-1.0] * 7, "high": [1.0] * 7, "shape": [7], "dtype": "float32"}
    told = {
        "dataset_id": "set-v0",
        "total_episodes": 2,
        "algorithm_name": "expert",
        "env_spec": msgspec.json.encode({"id": "Set-v0"}).decode(),
        "action_space": msgspec.json.encode(space).decode(),
        "observation_space": msgspec.json.encode({**space, "shape": [23]}).decode(),
    }
    (data / "metadata.json").write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2))


def _old_minari(folder: Path) -> None:
    with h5py.File(folder / "main_data.hdf5", "w", libver="latest") as file:
        _hostile("minari")(file)
        file.attrs["dataset_id"], file.attrs["total_episodes"] = "old-v0", 2
        file.attrs["action_space"] = '{"type": "Box", "low": [-1.0], "high": [1.0], "shape": [7]}'


def _rlds(folder: Path) -> None:
    shutil.copytree(TESTS / "data" / "rlds" / "rlds_walker" / "1.0.0", folder / "1.0.0")


def _decision_transformer(folder: Path) -> None:
    shutil.copytree(TESTS / "data" / "hf_dt" / "plain", folder / "plain")


def _read_decision_transformer(folder: Path, reading: Reading) -> None:
    with reading.refused():
        create_agent(f"hf-dt:{folder / 'plain'}")


def _robomimic(folder: Path) -> None:
    with h5py.File(folder / "stack_d0.hdf5", "w") as file:
        _hostile("robomimic")(file)
        for number in range(EPISODES):
            del file[f"data/demo_{number}/obs/object"]
            file[f"data/demo_{number}/obs/object"] = np.zeros((20, 23))


def _composuite(folder: Path) -> None:
    for number in range(EPISODES):
        with h5py.File(folder / f"{number}.hdf5", "w") as file:
            _hostile("composuite")(file)


def _reference(folder: Path) -> None:
    with h5py.File(folder / "0.hdf5", "w") as file:
        _hostile("reference")(file)
    states, actions, rewards = np.zeros((20, 23)), np.zeros((20, 7)), np.zeros(20)
    np.savez_compressed(
        folder / "1.npz", states=states, actions=actions, rewards=rewards, dones=True, returns_to_go=rewards
    )
    (folder / "episode_lengths.json").write_text('{\n  "0": 20,\n  "1": 20\n}\n')
    (folder / "episode_returns.json").write_text('{\n  "0": 0.0,\n  "1": 0.0\n}\n')


# What was measured


def _hostile_folders(folder: Path) -> dict[str, Path]:
    return _module("hostile_fields", "reports").make_folders(folder)  # type: ignore[no-any-return]


def _measured(kind: str, read: Callable[[Path, Reading], None]) -> Format:
    def make(folder: Path) -> None:
        made = _hostile_folders(folder / "all")[kind]
        made.rename(folder / kind)

    return Format(kind, make, lambda folder, reading: read(folder / kind, reading), f"{kind}/**/*")


def _report(path: Path, reading: Reading) -> None:
    with reading.refused():
        runs, others = load_folders([path])
        if runs:
            summarise(runs, resamples=20)
        make_sections(runs, others)


def _read_run(path: Path, reading: Reading) -> None:
    with reading.refused():
        run = Run(path)
        with reading.refused():
            list(run.settled())
            run.episodes()
            run.tasks()
        with reading.refused():
            run.missing()
            list(run.outcomes())
        with reading.refused():
            run.provenance()
            run.sessions()
            run.origins()
        with reading.refused():
            run.without_checksums()
    _report(path, reading)


def _read_latency(path: Path, reading: Reading) -> None:
    with reading.refused():
        run = LatencyRun(path)
        with reading.refused():
            run.points()
            run.missing()
        with reading.refused():
            run.provenance()
            run.without_checksums()
        with reading.refused():
            inputs.read(path, run.plan.inputs)
    _report(path, reading)


def _read_study(path: Path, reading: Reading) -> None:
    with reading.refused():
        study = StudyFolder(path)
        study.without_checksums()
        for cell in study.cells():
            with reading.refused():
                cell.copies()
                cell.times()
                cell.stage()
    _report(path, reading)


def _read_precisions(path: Path, reading: Reading) -> None:
    with reading.refused():
        study = PrecisionFolder(path)
        study.without_checksums()
        for cell in study.cells():
            with reading.refused():
                study.agreement(cell)
                study.times(cell.checkpoint)
                study.to_do(cell)
    _report(path, reading)


def _read_training(path: Path, reading: Reading) -> None:
    with reading.refused():
        load_trainings([str(path)])
    with reading.refused():
        recipe_of(path)
        check_recipe_text(path)
    with reading.refused():
        read_metrics(path / "metrics.jsonl")


# Models and trainings

_TINY = "xlstm[1:0]-1M"


def _tiny() -> ActionModel:
    plain = config_to_dict(parse_preset(_TINY))
    plain["width"], plain["layers"], plain["name"] = 32, 1, ""
    return build_model(replace(config_from_dict(plain)), seed=0)


def _make_checkpoint(folder: Path) -> None:
    model = _tiny()
    card = {"made_by": "a test", "data": {"stores": [{"path": "x", "digest": "ab" * 32}]}}
    save_checkpoint(
        folder / "checkpoint",
        model,
        model.config,
        trained=True,
        card=card,
        dtype=torch.float16,
        target_returns={"toy/reach": 3.0},
    )


def _read_checkpoint(folder: Path, reading: Reading) -> None:
    path = folder / "checkpoint"
    with reading.refused():
        load_checkpoint(path)
    with reading.refused():
        read_card(path)
    # Most changes are seen by the checksums; what those do not see is to be seen, too.
    (path / "SHA256SUMS").unlink(missing_ok=True) if (path / "SHA256SUMS").is_file() else None
    with reading.refused():
        load_checkpoint(path)


def _make_state(folder: Path) -> None:
    run = folder / "training"
    run.mkdir()
    model = _tiny()
    recipe = read_recipe(None, (f"model.preset={_TINY}", "data.stores=store", "optimizer.warmup_updates=2"))
    (run / "recipe.toml").write_bytes(signed_recipe(render_recipe(recipe)))
    metrics = _module("test_training", "reports").Made(updates=10, of_updates=10).lines()
    (run / "metrics.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in metrics))
    tensors = {f"weights.{name}": value for name, value in model.state_dict().items()}
    for update in (5, 10):
        state = TrainingState(
            update=update,
            micro_step=update,
            recipe=recipe_to_dict(recipe),
            model=config_to_dict(model.config),
            stores=("ab" * 32,),
            processes=1,
            origin={},
            meter=Meter.empty(),
            seconds=1.0,
        )
        save_state(run, state, tensors)


def _read_state(folder: Path, reading: Reading) -> None:
    _read_training(folder / "training", reading)
    with reading.refused():
        load_state(folder / "training", talks=False)


def _make_source(folder: Path) -> None:
    golden = TESTS / "data" / "golden" / "tiny_mamba.safetensors"
    tensors = load_file(golden)
    (folder / "weights.safetensors").write_bytes(golden.read_bytes())
    torch.save(tensors, folder / "policy.pt")
    torch.save(tensors, folder / "old.pt", _use_new_zipfile_serialization=False)
    save_file({"x": torch.zeros(2, dtype=torch.float8_e4m3fn)}, folder / "float8.safetensors")


def _read_source(folder: Path, reading: Reading) -> None:
    for number, name in enumerate(("weights.safetensors", "policy.pt", "old.pt")):
        with reading.refused():
            import_checkpoint(folder / name, folder / f"out{number}")


# Plans that people write


def _make_recipes(folder: Path) -> None:
    for name in ("small", "small-long", "darkroom-xlstm-1-0", "darkroom-xlstm-7-1"):
        source = TESTS.parent / "agents" / "recipes" / f"{name}.toml"
        (folder / f"{name}.toml").write_bytes(source.read_bytes())
    for name, file in shipped_studies().items():
        (folder / f"study-{name}.toml").write_bytes(file.read_bytes())


def _read_recipes(folder: Path, reading: Reading) -> None:
    for file in sorted(folder.glob("*.toml")):
        with reading.refused():
            if file.name.startswith("study-"):
                study = read_study(file)
                try:
                    cells_of(study, {"store": "ab" * 32}, ("toy:lram@1",))
                except AgentError as error:  # it names the cell, which has no file yet
                    raise AgentError(f"{file}: {error}") from error
            else:
                read_recipe(file)


def _make_interpreter(folder: Path) -> None:
    place = folder / "interpreters" / "robosuite"
    place.mkdir(parents=True)
    told = {
        "domain": "robosuite",
        "python": "3.11.7",
        "path": str(place / "venv/bin/python"),
        "requirements": ["robosuite==1.4.1"],
        "packages": {"numpy": "1.26"},
        "sources": [{"module": "mimicgen", "path": "/x", "commit": "", "licence": "MIT"}],
        "installer": "pip 25",
        "created": "2026-01-01T00:00:00Z",
        "lram_bench": "0.1.0",
    }
    (place / "interpreter.json").write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2))


def _read_interpreter(folder: Path, reading: Reading) -> None:
    os.environ["LRAM_HOME"] = str(folder)
    with reading.refused():
        for one in places():
            state(one)
        installed()


FORMATS = (
    Format("trajectory store", _make_store, _read_store, "store/**/*"),
    _source("Minari", _minari, "own/x"),
    _source("older Minari", _old_minari, "own/x"),
    _source("RLDS", _rlds, "own/x"),
    Format("Decision Transformer", _decision_transformer, _read_decision_transformer),
    _source("robomimic", _robomimic),
    _source("CompoSuite", _composuite, "own/x"),
    _source("reference's episodes", _reference, "own/x"),
    _measured("run", _read_run),
    _measured("parts", _read_run),
    _measured("latency", _read_latency),
    _measured("extrapolation", _report),
    _measured("study", _read_study),
    _measured("precision", _read_precisions),
    _measured("training", _read_training),
    _measured("unfinished", _read_training),
    Format("checkpoint", _make_checkpoint, _read_checkpoint, "checkpoint/**/*"),
    Format("training state", _make_state, _read_state, "training/**/*"),
    Format("reference's weights", _make_source, _read_source, "*"),
    Format("recipes and studies", _make_recipes, _read_recipes, "*.toml"),
    Format("interpreters", _make_interpreter, _read_interpreter, "interpreters/**/*"),
)

"""Extrapolation: what is measured, on what no model was trained on, and that nothing is lost."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.files import edit, replace_text
from support.ready import ready_python

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.api import AgentError
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.checkpoints.folder import load_checkpoint, save_checkpoint
from lram.agents.factory import create_agent
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import build_model
from lram.agents.training.batches import Places, assemble
from lram.agents.training.heldout import card_facts, split_facts
from lram.agents.training.recipe import recipe_to_dict
from lram.agents.training.recipe_text import read_recipe
from lram.agents.training.selection import Selection
from lram.agents.trajectories import StoreWriter, TrajectoryStore
from lram.harness.cli.extrapolate import extrapolate as command
from lram.harness.collection.collect import collect
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine
from lram.harness.extrapolation import planning, validity
from lram.harness.extrapolation.folder import Extrapolation, Writer
from lram.harness.extrapolation.losses import measure, windows
from lram.harness.extrapolation.planning import ExtrapolationRequest
from lram.harness.extrapolation.records import Candidate, ExtrapolationPlan, LossItem, Source, Stretch
from lram.harness.extrapolation.running import extrapolate, resume
from lram.harness.extrapolation.trajectories import Wanted, choose, trained_length
from lram.harness.extrapolation.validity import check

pytestmark = pytest.mark.usefixtures("checked_once")

MACHINE = Machine(lanes=4, workers=1)
TASKS = "toy/reach,toy/lives"
CONFIG = ModelConfig(64, 2, backbone=XLSTMConfig(slstm_at=(1,)))
WANTED = Wanted((), ("*",), per_task=10, longer_than=0, seed=0, state_width=204)


@pytest.fixture(scope="session")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "unseen"
    collect(["random", "constant"], TASKS, path, episodes=3, seed=5, machine=MACHINE)
    return path


def _checkpoint(folder: Path, card: dict[str, Any] | None = None, config: ModelConfig = CONFIG) -> Path:
    returns = {"toy/reach": 20.0, "toy/lives": 5.0}
    save_checkpoint(
        folder, build_model(config, 0), config, trained=True, card=card or {}, target_returns=returns
    )
    return folder


def _card(context: int, *stores: TrajectoryStore, **data: Any) -> dict[str, Any]:
    settings = [f"sampling.context={context}", "data.stores=['x']"]
    settings += [f"data.{name}={value}" for name, value in data.items()]
    recipe = recipe_to_dict(read_recipe(None, settings))
    return {"recipe": recipe, "data": {"stores": [{"path": "x", "digest": store.digest} for store in stores]}}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, unseen: Path) -> Extrapolation:
    folder = tmp_path_factory.mktemp("extrapolation")
    model = _checkpoint(folder / "model", _card(8))
    request = ExtrapolationRequest(
        agents=[str(model)],
        tasks=[TASKS],
        contexts=(4, 8, 60),
        stores=[unseen],
        trajectories=3,
        episodes=2,
    )
    return extrapolate(request, folder / "found", machine=MACHINE)


@pytest.mark.slow
def test_every_context_is_played_on_every_task(finished: Extrapolation) -> None:
    limited = {f"model@{mode}={length}" for mode in ("window", "reset") for length in (4, 8, 60)}
    assert finished.scores is not None
    records = finished.scores.records()
    assert {record.agent for record in records} == {"model@carry", *limited}
    assert len(records) == 7 * 2 * 2
    assert all(record.status == "scored" for record in records)


@pytest.mark.slow
def test_contexts_as_long_as_the_episode_end_in_the_same_trajectory(finished: Extrapolation) -> None:
    assert finished.scores is not None
    ends: dict[str, list[str]] = {}
    for record in finished.scores.records():
        if record.task == "toy/reach":
            ends.setdefault(record.agent, []).append(record.trajectory)
    assert ends["model@reset=60"] == ends["model@window=60"] == ends["model@carry"]
    assert ends["model@reset=4"] != ends["model@carry"]


def test_every_stretch_is_read_whole_and_within_the_trained_length(finished: Extrapolation) -> None:
    assert [record.item for record in finished.losses()] == finished.plan.readings()
    assert {record.reading for record in finished.losses()} == {"whole", "within"}
    for record in finished.losses():
        stretch = finished.plan.stretches[record.stretch]
        assert len(record.loss) == len(record.right) == len(record.error) == stretch.length > 8
        assert all(np.isfinite(record.loss))
    (checked,) = finished.validity()
    assert checked.holds
    assert checked.points[-1].timesteps == max(stretch.length for stretch in finished.plan.stretches)


def test_going_on_measures_what_is_missing_and_nothing_else(finished: Extrapolation, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.path, copy)
    segment = copy / "loss" / "0001.jsonl"
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:3]) + lines[3][:40])  # killed while it wrote the fourth
    records = copy / "scores" / "records" / "0001.jsonl"
    played = records.read_bytes().splitlines(keepends=True)
    records.write_bytes(b"".join(played[:20]))
    (copy / "validity" / "0001.jsonl").unlink()

    again = resume(copy)
    assert again.losses() == finished.losses()
    assert again.validity() == finished.validity()
    assert (copy / "loss" / "0002.jsonl").read_bytes().count(b"\n") == len(lines) - 3
    assert again.scores is not None
    assert finished.scores is not None
    kept = [(record.item, record.trajectory) for record in finished.scores.records()]
    assert [(record.item, record.trajectory) for record in again.scores.records()] == kept
    before = sorted(file for file in copy.rglob("*") if file.is_file())
    resume(copy)
    assert sorted(file for file in copy.rglob("*") if file.is_file()) == before


def test_a_store_that_has_changed_is_refused(finished: Extrapolation, unseen: Path, tmp_path: Path) -> None:
    moved = tmp_path / "store"
    shutil.copytree(unseen, moved)
    copy = tmp_path / "copy"
    shutil.copytree(finished.path, copy)
    replace_text(copy / "extrapolation.json", str(unseen), str(moved))
    (copy / "loss" / "0001.jsonl").unlink()
    collect("random", "toy/reach", moved, episodes=1, seed=77, machine=MACHINE)
    with pytest.raises(LramError, match="is not as it was"):
        resume(copy)


def test_a_model_that_has_changed_is_refused(finished: Extrapolation, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.path, copy)
    spec = finished.plan.agents[0].spec
    other = _checkpoint(tmp_path / "model", config=replace(CONFIG, backbone=XLSTMConfig()))
    replace_text(copy / "extrapolation.json", spec, str(other))
    (copy / "loss" / "0001.jsonl").unlink()
    with pytest.raises(LramError, match="is not the model that the extrapolation was started with"):
        resume(copy)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 12, 13, 40, 41])
@pytest.mark.parametrize("context", [1, 2, 5, 8])
def test_windows_leave_every_timestep_half_the_context_or_all_that_there_is(
    length: int, context: int
) -> None:
    done = 0
    for start, stop in windows(length, context):
        assert stop - start <= context
        assert stop > done or length == 0
        for timestep in range(done, stop):
            past = timestep - start + 1
            assert past >= min(timestep + 1, context - max(1, context // 2) + 1, context)
        done = stop
    assert done == length


def _stretch(store: TrajectoryStore, task: str) -> Stretch:
    episode = max((e for e in store.episodes if e.task == task), key=lambda e: e.length)
    return Stretch(0, episode.number, task, episode.policy, 0, episode.length)


@pytest.mark.parametrize("actions", [False, True])
def test_within_a_length_that_holds_all_is_the_whole(unseen: Path, actions: bool) -> None:
    store = TrajectoryStore(unseen)
    model = build_model(replace(CONFIG, actions_in_context=actions), 0)
    stretch = _stretch(store, "toy/reach")
    whole = measure(model, [store], stretch, LossItem("m", 0, "whole"), None)
    within = measure(model, [store], stretch, LossItem("m", 0, "within"), stretch.length)
    np.testing.assert_allclose(within.loss, whole.loss, atol=2e-5)
    short = measure(model, [store], stretch, LossItem("m", 0, "within"), 6)
    np.testing.assert_allclose(short.loss[:6], whole.loss[:6], atol=2e-5)
    assert not np.allclose(short.loss[6:], whole.loss[6:], atol=1e-4)


def test_a_loss_within_a_length_is_that_of_its_window_alone(unseen: Path) -> None:
    store, model = TrajectoryStore(unseen), build_model(CONFIG, 0)
    stretch = _stretch(store, "toy/reach")
    within = measure(model, [store], stretch, LossItem("m", 0, "within"), 8)
    window = replace(stretch, start=8, stop=16)  # windows of 8 begin at 0, 4, 8, ...
    alone = measure(model, [store], window, LossItem("m", 0, "whole"), None)
    np.testing.assert_allclose(within.loss[12:16], alone.loss[4:8], atol=2e-5)
    assert (alone.dims, alone.context, within.context) == (2, 0, 8)


def test_an_episode_is_cut_where_the_agent_s_context_begins_anew(unseen: Path) -> None:
    store = TrajectoryStore(unseen)
    stretches, _ = choose([store], {"m": {}}, replace(WANTED, tasks=("toy/lives",), per_task=1000))
    cut = {(s.number, s.start) for s in stretches}
    starts = {
        (e.number, start) for e in store.episodes if e.task == "toy/lives" for start in e.context_starts
    }
    assert cut == starts
    assert len(cut) > len({s.number for s in stretches})


def test_of_a_store_that_was_trained_on_only_the_validation_share_counts(unseen: Path) -> None:
    store = TrajectoryStore(unseen)
    drawn = {"validation_share": 0.34, "tasks": ["toy/reach"]}
    card = _card(8, store, **drawn)
    stretches, told = choose([store], {"m": card}, replace(WANTED, tasks=("toy/reach",)))
    assert len({s.number for s in stretches}) == 2  # of six
    assert told == "the validation share that m held out, by the recipes in their cards"
    other, _ = choose([store], {"m": _card(8, store, seed=9, **drawn)}, WANTED)
    both, _ = choose([store], {"m": card, "n": card}, replace(WANTED, tasks=("toy/reach",)))
    assert both == stretches
    assert {s.number for s in other if s.task == "toy/reach"} != {s.number for s in stretches}
    everything, told = choose([store], {"m": {}}, replace(WANTED, tasks=("toy/reach",)))
    assert len(everything) == 6
    assert told == "what m were trained on, if at all, is not known"


def test_a_domain_of_weight_0_that_a_model_cannot_read_is_no_matter_of_what_it_held_out(
    unseen: Path, tmp_path: Path
) -> None:
    """Its training left that domain out of everything, and so does the split that is drawn again."""
    store = TrajectoryStore(unseen)
    with StoreWriter(tmp_path / "store") as writer:
        for number in (e.number for e in store.episodes if e.task == "toy/reach"):
            one = store.trajectory(number)
            writer.append(one)
            wide = np.zeros((len(one.observations), 300), np.float32)
            task = replace(one.task, id="wide/reach", domain="wide", observation_shape=(300,))
            writer.append(replace(one, task=task, observations=wide, origin=""))
    both = TrajectoryStore(tmp_path / "store")
    recipe = read_recipe(
        None, ["sampling.context=8", "data.stores=['x']", "sampling.domain_weights={wide = 0}"]
    )
    card = {**_card(8, both), "recipe": recipe_to_dict(recipe)}
    stretches, _ = choose([both], {"m": card}, replace(WANTED, tasks=("toy/reach",)))
    assert {s.task for s in stretches} == {"toy/reach"}


def _copied(unseen: Path, folder: Path, numbers: Sequence[int]) -> TrajectoryStore:
    """A store with some trajectories of another, under other seeds and names."""
    store = TrajectoryStore(unseen)
    with StoreWriter(folder) as writer:
        for place, number in enumerate(numbers):
            writer.append(replace(store.trajectory(number), seed=900 + place, origin=f"copy {place}"))
    return TrajectoryStore(folder)


def test_held_out_trajectories_that_are_also_training_ones_are_counted_and_left_out(
    unseen: Path, tmp_path: Path
) -> None:
    reach = [e.number for e in TrajectoryStore(unseen).episodes if e.task == "toy/reach"]
    store = _copied(unseen, tmp_path / "store", [*reach[:2] * 8])
    card = _card(8, store, validation_share=0.5, validation_unit="episode")
    with pytest.raises(LramError, match="8 of 8 validation trajectories are also training trajectories of m"):
        choose([store], {"m": card}, WANTED)
    by_trajectory = _card(8, store, validation_share=0.5)
    stretches, told = choose([store], {"m": by_trajectory}, WANTED)
    assert len(stretches) == 1
    assert "also" not in told


def test_copies_of_training_trajectories_in_another_store_are_found_by_the_card(
    unseen: Path, tmp_path: Path
) -> None:
    source = TrajectoryStore(unseen)
    reach = [e.number for e in source.episodes if e.task == "toy/reach"]
    trained = _copied(unseen, tmp_path / "trained", reach[:4])
    card = _card(8, trained, validation_share=0.0)
    facts = split_facts([trained], Selection(validation_share=0.0), state_width=204)
    card["data"]["trajectories"] = card_facts(Selection(validation_share=0.0), facts)
    stretches, told = choose([source], {"m": card}, replace(WANTED, tasks=("toy/reach",)))
    assert {stretch.number for stretch in stretches} == set(reach[4:])
    assert told.startswith("4 of 6 validation trajectories are also training trajectories of m, and left out")
    assert told.endswith("and no trajectory that m was trained on")


def test_a_store_given_twice_is_refused(unseen: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(unseen, again)
    card = _card(8, TrajectoryStore(unseen))
    with pytest.raises(LramError, match="the same trajectories twice"):
        choose([TrajectoryStore(unseen), TrajectoryStore(again)], {"m": card}, WANTED)


def test_what_is_not_known_of_unseen_trajectories_is_said(unseen: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    collect("random", "toy/reach", other, episodes=1, seed=79, machine=MACHINE)
    card = _card(8, TrajectoryStore(other))
    _, told = choose([TrajectoryStore(unseen)], {"m": card}, WANTED)
    assert told == (
        "stores under other digests than the card of m names; that they hold other episodes is not checked"
    )
    again = {**card, "init_from": {"checkpoint": "x", "digest": "y"}}
    _, told = choose([TrajectoryStore(unseen)], {"m": card, "n": again}, WANTED)
    assert told.endswith(
        "of n, which continued from another checkpoint, only what the last training read, and what is "
        "known of those before, is left out"
    )


def test_what_a_model_held_out_is_told_with_its_own_width(unseen: Path) -> None:
    card = _card(8, TrajectoryStore(unseen), validation_share=0.34, tasks=["toy/reach"])
    narrow = replace(WANTED, tasks=("toy/lives",), state_width=5)  # toy/reach shows six numbers
    with pytest.raises(AgentError, match="width 6, and the model reads 5"):
        choose([TrajectoryStore(unseen)], {"m": card, "n": {}}, narrow)
    with pytest.raises(LramError, match="no trajectory that the agents were not trained on"):
        choose([TrajectoryStore(unseen)], {"m": card, "n": {}}, replace(narrow, state_widths={"m": 6}))


def test_a_store_that_has_grown_since_training_is_refused(unseen: Path, tmp_path: Path) -> None:
    card = _card(8, TrajectoryStore(unseen))
    grown = tmp_path / "grown"
    shutil.copytree(unseen, grown)
    collect("random", "toy/reach", grown, episodes=1, seed=78, machine=MACHINE)
    with pytest.raises(LramError, match="has grown since m was trained on it"):
        choose([TrajectoryStore(grown)], {"m": card}, WANTED)


def test_stores_are_needed_as_the_share_was_drawn_from_them(unseen: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    collect("random", "toy/reach", other, episodes=1, seed=79, machine=MACHINE)
    stores = TrajectoryStore(unseen), TrajectoryStore(other)
    with pytest.raises(LramError, match="of which 1 are given"):
        choose(stores[:1], {"m": _card(8, *stores)}, WANTED)
    with pytest.raises(LramError, match="held nothing out"):
        choose(stores[:1], {"m": _card(8, stores[0], validation_share=0.0)}, WANTED)
    with pytest.raises(LramError, match="longer than the 500 timesteps"):
        choose(stores, {"m": {}}, replace(WANTED, longer_than=500))
    with pytest.raises(LramError, match="hold none of the tasks"):
        choose(stores, {"m": {}}, replace(WANTED, tasks=("atari/*",)))
    with pytest.raises(LramError, match="no policy"):
        choose(stores, {"m": {}}, replace(WANTED, policies=("expert",)))


def test_the_drawing_is_the_same_whatever_else_is_asked_for(unseen: Path) -> None:
    stores = [TrajectoryStore(unseen)]
    few, _ = choose(stores, {"m": {}}, replace(WANTED, per_task=2))
    again, _ = choose(stores, {"m": {}}, replace(WANTED, per_task=2, tasks=("toy/reach",)))
    assert [s for s in few if s.task == "toy/reach"] == list(again)
    assert choose(stores, {"m": {}}, replace(WANTED, per_task=2, seed=1))[0] != few


def test_the_trained_length_is_told_by_the_card() -> None:
    assert trained_length(_card(123)) == 123
    assert trained_length({}) is trained_length({"recipe": {"sampling": {"context": "x"}}}) is None


def _plan(stores: list[Source], stretches: tuple[Stretch, ...] = ()) -> ExtrapolationPlan:
    return ExtrapolationPlan(1, 0, (), (4, 16), (), stores=tuple(stores), stretches=stretches)


@pytest.mark.parametrize("task", ["toy/reach", "toy/lives"])
@pytest.mark.parametrize("actions", [False, True])
def test_step_equals_forward_on_a_real_trajectory(unseen: Path, task: str, actions: bool) -> None:
    store = TrajectoryStore(unseen)
    config = replace(CONFIG, actions_in_context=actions)
    agent = ModelAgent(build_model(config, 0), trained=False, description="tiny", digest="")
    record = check(agent, "m", _plan([Source("x", store.digest)], (_stretch(store, task),)), [store])
    assert record.holds
    assert record.points[-1].timesteps == _stretch(store, task).length
    assert record.read.startswith(task)


@pytest.mark.parametrize("task", ["toy/reach", "toy/lives"])
@pytest.mark.parametrize("actions", [False, True])
def test_validity_reads_the_tokens_that_losses_are_read_from(unseen: Path, task: str, actions: bool) -> None:
    store = TrajectoryStore(unseen)
    model = build_model(replace(CONFIG, actions_in_context=actions), 0)
    stretch = _stretch(store, task)
    one = np.array([0])
    places = Places("toy", one, one + stretch.number, one, one + stretch.start, one + stretch.stop)
    batch = assemble([store], [store.tasks[task]], places, length=stretch.length, state_width=204)
    given = batch.classes if actions else None
    with torch.inference_mode():
        hidden = model(batch.observations, batch.returns_to_go, batch.rewards, given).hidden[0]
        tokens = torch.cat(validity._passes_of(model, [store], stretch))
        read = model.backbone(tokens.unsqueeze(0))[0]
    assert len(tokens) < len(hidden)  # what comes after the last decision is left out
    np.testing.assert_allclose(read, hidden[: len(tokens)], atol=2e-5)


@pytest.fixture
def _shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validity, "LONG", 40)


@pytest.mark.usefixtures("_shorter")
def test_a_step_that_parts_from_forward_late_is_found() -> None:
    agent = ModelAgent(build_model(CONFIG, 0), trained=False, description="tiny", digest="")
    call, passes = agent.stepper.call, 0

    def drifting(x: Any, state: Any, valid: Any) -> Any:
        nonlocal passes
        passes += 1
        y, state = call(x, state, valid)
        return (y + 0.01 if passes > 30 else y), state

    agent = agent.with_stepper(replace(agent.stepper, call=drifting))
    record = check(agent, "m", _plan([]), [])
    assert not record.holds
    assert [point.difference is not None and point.difference < 1e-3 for point in record.points] == [
        True,
        True,
        False,
    ]


@pytest.mark.usefixtures("_shorter")
def test_a_state_that_is_not_finite_is_found() -> None:
    agent = ModelAgent(build_model(CONFIG, 0), trained=False, description="tiny", digest="")
    call = agent.stepper.call

    def overflowing(x: Any, state: Any, valid: Any) -> Any:
        y, state = call(x, state, valid)
        first = next(iter(_floats(state)))
        first.fill_(float("inf"))
        return y, state

    agent = agent.with_stepper(replace(agent.stepper, call=overflowing))
    record = check(agent, "m", _plan([]), [])
    assert not record.holds
    assert record.points[0].state is None


def _floats(state: Any) -> list[torch.Tensor]:
    from lram.agents.backbones.states import tensors

    return [tensor for tensor in tensors(state) if tensor.is_floating_point()]


@pytest.mark.usefixtures("_shorter")
def test_a_window_that_is_recomputed_is_compared_as_far_as_it_reaches() -> None:
    config = ModelConfig(64, 2, backbone=TransformerConfig(heads=4, window=30))
    agent = ModelAgent(build_model(config, 0), trained=False, description="tiny", digest="")
    record = check(agent, "m", _plan([]), [])
    assert (record.compared, record.holds) == (10, True)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"agents": ["random"]}, "is no action model"),
        ({"agents": ["xlstm[7:1]-1M~0.1"]}, "is no action model"),
        ({"agents": ["xlstm[7:1]-1M@window=4"]}, "is no action model"),
        ({"contexts": (0,)}, "context is 0"),
        ({"modes": ("slide",)}, "no mode 'slide'"),
        ({"tasks": (), "stores": ()}, "nothing to measure"),
        ({"trajectories": 0}, "--trajectories is 0"),
        ({"agents": ["xlstm[7:1]-1M", "xlstm[7:1]-1M@carry"]}, "are the same"),
        ({"tasks": ["toy/nothing"]}, "toy/nothing"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    request = replace(ExtrapolationRequest(["xlstm[7:1]-1M"], ["toy/steps"], (4,), episodes=1), **change)
    with pytest.raises(LramError, match=sentence.replace("[", r"\[")):
        extrapolate(request, tmp_path / "found", machine=MACHINE)
    assert not (tmp_path / "found").exists()


def _non_finite(config: ModelConfig = CONFIG) -> ModelAgent:
    """Return a model whose hidden states are finite for some decisions, and then no more."""
    model = build_model(config, 0)
    forward = model.backbone.forward

    def overflowing(x: torch.Tensor) -> torch.Tensor:
        y = forward(x).clone()
        y[:, 30:] = float("nan")
        return y

    model.backbone.forward = overflowing
    return ModelAgent(model, trained=False, description="tiny", digest="")


def test_what_is_not_finite_is_recorded_and_read_again(unseen: Path, tmp_path: Path) -> None:
    store, agent = TrajectoryStore(unseen), _non_finite()
    stretch = _stretch(store, "toy/reach")
    plan = _plan([Source(str(unseen), store.digest)], (stretch,))
    plan = replace(plan, agents=(Candidate("m", "m", agent.info, None),))
    found = check(agent, "m", plan, [store])
    loss = measure(agent.model, [store], stretch, LossItem("m", 0, "whole"), None)
    assert (found.scale, found.limit, found.holds) == (None, None, False)
    assert [value is None for value in loss.loss] == [place >= 10 for place in range(stretch.length)]
    with Writer.create(tmp_path / "x", plan) as writer:
        writer.append(found)
        writer.append(loss)
    assert Extrapolation(tmp_path / "x").validity() == [found]
    assert Extrapolation(tmp_path / "x").losses() == [loss]


@pytest.mark.slow
def test_a_model_that_breaks_down_in_play_does_not_keep_others_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lram.agents.acting import model_agent

    real = model_agent.choose_action

    def breaking(logits: Any, task: Any, decode: str) -> Any:
        if decode == "lower" and task.domain == "toy":  # not in the gate
            raise AgentError(f"the model's output for {task.id} is not finite")
        return real(logits, task, decode)

    good = _checkpoint(tmp_path / "good")
    bad = _checkpoint(tmp_path / "bad", config=replace(CONFIG, decode="lower"))
    request = ExtrapolationRequest(
        [str(bad), str(good)], ["toy/reach"], (4,), ("window", "carry"), episodes=2
    )
    with monkeypatch.context() as patched:
        patched.setattr(model_agent, "choose_action", breaking)
        found = extrapolate(request, tmp_path / "found", machine=MACHINE)
    assert found.scores is not None
    assert {item.agent for item in found.scores.missing()} == {"bad@window=4", "bad@carry"}
    assert {record.agent for record in found.scores.records()} == {"good@window=4", "good@carry"}
    said = capsys.readouterr().err
    assert "agent bad@carry raised AgentError" in said
    assert "the other agents continue" in said
    again = resume(found.path).scores
    assert again is not None
    assert not again.missing()


def test_what_a_model_cannot_read_whole_is_left_out_and_said(
    tmp_path: Path, unseen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longest = max(episode.length for episode in TrajectoryStore(unseen).episodes)
    section = TransformerConfig(heads=4, window=30, max_positions=3 * longest - 1)
    config = ModelConfig(64, 1, backbone=section)
    models = [_checkpoint(tmp_path / "short", config=config), _checkpoint(tmp_path / "any")]
    request = ExtrapolationRequest([str(model) for model in models], stores=[unseen], trained=4)
    found = extrapolate(request, tmp_path / "found", machine=MACHINE)
    assert [agent.reach for agent in found.plan.agents] == [longest - 1, None]
    assert not found.missing_losses()
    lengths = {label: [] for label in ("short", "any")}
    for record in found.losses():
        lengths[record.agent].append(len(record.loss))
    assert max(lengths["any"]) == longest
    assert 0 < max(lengths["short"]) < longest
    assert f"short reads {longest - 1} timesteps at once and no more" in capsys.readouterr().err
    few = replace(section, max_positions=30)
    alone = _checkpoint(tmp_path / "less", config=replace(config, backbone=few))
    request = replace(request, agents=[str(alone)], trained=12)
    with pytest.raises(LramError, match="longer than what these models can read"):
        extrapolate(request, tmp_path / "none", machine=MACHINE)


def test_the_trained_length_is_among_the_contexts_that_are_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [str(_checkpoint(tmp_path / name, _card(length))) for name, length in (("a", 6), ("b", 4))]
    request = ExtrapolationRequest(models, ["toy/reach"], (4, 9), ("reset", "carry"), episodes=1)
    plan = planning.plan_of(request, MACHINE)
    assert plan.contexts == (4, 6, 9)
    played = {agent.label for agent in planning.scores_plan_of(plan, MACHINE).agents}
    assert played == {
        f"{name}@{context}" for name in "ab" for context in ("carry", "reset=4", "reset=6", "reset=9")
    }
    assert "trained on 6 timesteps, so contexts of that length are played, too" in capsys.readouterr().err


def test_models_pass_the_gate_where_nothing_is_played(
    tmp_path: Path, unseen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = ModelAgent(build_model(CONFIG, 0), trained=False, description="tiny", digest="")
    call = agent.stepper.call

    def off(x: Any, state: Any, valid: Any) -> Any:
        y, state = call(x, state, valid)
        return y + 0.1, state

    agent = agent.with_stepper(replace(agent.stepper, call=off))
    monkeypatch.setattr(planning, "build_agent", lambda *_: agent)
    with pytest.raises(LramError, match="does not act as its model was trained"):
        extrapolate(ExtrapolationRequest(["m"], stores=[unseen]), tmp_path / "found", machine=MACHINE)
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"resume": Path("x"), "contexts": "25"}, "leave out --contexts"),
        ({"resume": Path("x"), "episodes": 3, "protocol": ["toy=toy@1"]}, "--episodes, --protocol"),
        ({"resume": Path("x"), "agents": ["m"]}, "leave out the models"),
        ({"data": [Path("d")], "episodes": 10}, "without --tasks it plays nothing; leave out --episodes"),
        ({"data": [Path("d")], "exclude": ["toy/reach"]}, "leave out --exclude"),
        ({"tasks": ["toy/reach"], "policies": ["*"]}, "without --data it reads no trajectory"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    new = {} if "resume" in options else {"agents": ["xlstm[7:1]-1M"], "output": tmp_path / "found"}
    given = {**new, **options}
    with pytest.raises(LramError, match=sentence):
        command(given.pop("agents", None), **given)


@pytest.mark.slow
def test_the_command_measures_and_goes_on(tmp_path: Path, unseen: Path) -> None:
    model, found = _checkpoint(tmp_path / "model", _card(8)), tmp_path / "found"
    asked = [str(model), "-d", str(unseen), "--trajectories", "1", "-c", "4", "-o", str(found)]
    for arguments in (asked, ["--resume", str(found)]):
        answer = subprocess.run(
            [*ready_python(), "-m", "lram.harness.cli", "extrapolate", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        assert f"lram report {found}" in answer.stdout
        assert "yes" in answer.stdout
    assert Extrapolation(found).scores is None


def test_a_shipped_model_s_card_tells_its_trained_length() -> None:
    from lram.agents.checkpoints.shipped import shipped_checkpoints

    cards = [load_checkpoint(folder)[1].card for folder in shipped_checkpoints().values()]
    assert {trained_length(card) for card in cards} == {50, 200}
    assert create_agent("small-mamba@window=50").info.digest != create_agent("small-mamba").info.digest


@pytest.mark.slow
def test_an_extrapolation_that_was_ended_before_it_had_its_scores_is_continued(
    finished: Extrapolation, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.path, copy)
    shutil.rmtree(copy / "scores")
    (copy / "scores").mkdir()
    again = resume(copy, machine=MACHINE)
    assert again.scores is not None
    assert finished.scores is not None
    kept = [(one.item, one.trajectory) for one in finished.scores.records()]
    assert [(one.item, one.trajectory) for one in again.scores.records()] == kept
    shutil.rmtree(copy / "scores")
    edit(copy / "extrapolation.json", lambda plan: plan.pop("protocols"))
    with pytest.raises(LramError, match="by a version that did not note"):
        resume(copy, machine=MACHINE)

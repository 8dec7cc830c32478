"""A run is of one agent: changed code and changed weights are refused, and said where they got in."""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from lram.agents.api import AgentInfo
from lram.agents.checkpoints.folder import save_checkpoint
from lram.agents.model.config import config_from_dict
from lram.agents.model.network import build_model
from lram.agents.own_code import code_of, file_digests, files_digest, model_code, source_digests
from lram.harness.collection.collect import collect, resume_collection
from lram.harness.embedding.running import EmbeddingRequest, embed
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine, evaluate, resume
from lram.harness.extrapolation.planning import ExtrapolationRequest
from lram.harness.extrapolation.running import extrapolate
from lram.harness.extrapolation.running import resume as resume_extrapolation
from lram.harness.plan import check_code
from lram.harness.storage.run_folder import Run, RunWriter
from lram.harness.trust import Trust
from lram.reports import summarise

MACHINE = Machine(lanes=2, workers=1)
AGENT = """
import numpy as np
from lram.agents.api import AgentInfo
from {helper} import chosen


class Agent:
    info = AgentInfo("baseline", "own")

    def refuses(self, task):
        return None

    def start(self, lanes):
        return None

    def reset(self, state, lanes, episodes):
        pass

    def act(self, state, observations, rewards, lanes):
        return [np.full(2, chosen(seen), np.float32) for seen in observations], state

    def state_bytes(self, state):
        return 0
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an agent whose choice is made in a helper module; the helper's file is returned."""
    name = f"own_{abs(hash(tmp_path)) % 10**9}"
    (tmp_path / f"{name}.py").write_text(AGENT.format(helper=f"helper_{name}"))
    helper = tmp_path / f"helper_{name}.py"
    helper.write_text("def chosen(seen):\n    return 0.5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield helper
    for module in (name, f"helper_{name}"):
        sys.modules.pop(module, None)


def spec(helper: Path) -> str:
    return f"{helper.stem.removeprefix('helper_')}:Agent"


def forget(run: Run) -> Run:
    """Return the run without what was recorded."""
    for file in (run.path / "records").glob("*.jsonl"):
        file.unlink()
    return Run(run.path)


def test_a_changed_helper_of_an_agent_is_refused_by_name(own: Path) -> None:
    run = forget(evaluate({"own": spec(own)}, "toy/reach", "run", episodes=1, machine=MACHINE))
    own.write_text("def chosen(seen):\n    return -0.5\n")
    with pytest.raises(LramError, match=f"the source of {own.stem} has changed since; put it back"):
        resume(run, machine=MACHINE, trust=Trust(specs=[spec(own)]))
    own.write_text("def chosen(seen):\n    return 0.5\n")
    assert len(resume(run, machine=MACHINE, trust=Trust(specs=[spec(own)])).records()) == 1


def test_a_checkpoint_is_of_the_code_of_its_own_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "extending.md").read_text(encoding="utf-8")
    [source] = re.findall(r"^```python\n(# leaky_backbone.py\n.*?)^```", page, re.DOTALL | re.MULTILINE)
    code = tmp_path / "own_leaky_agent.py"
    code.write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = config_from_dict({"width": 16, "layers": 1, "backbone": "own_leaky_agent:SPEC"})
    save_checkpoint(tmp_path / "mine", build_model(config, 0), config, trained=False, card={})
    run = forget(evaluate(tmp_path / "mine", "toy/reach", tmp_path / "run", episodes=1, machine=MACHINE))
    [entry] = run.plan.agents
    assert set(entry.code) == {"own_leaky_agent"}
    [session] = run.provenance()
    assert session.sources[entry.label].keys() == {"weights", "module own_leaky_agent"}
    assert code_of(f"{tmp_path / 'mine'}@window=5~0.1") == entry.code
    assert code_of("gru-1M") == code_of("small-mamba") == {}
    mine = str(tmp_path / "mine")
    asked = ExtrapolationRequest([mine], tasks=["toy/reach"], contexts=(2,), modes=("reset",), episodes=1)
    extrapolation = extrapolate(asked, tmp_path / "extrapolation", machine=MACHINE)
    for file in (extrapolation.path / "validity").glob("*.jsonl"):
        file.unlink()
    collect("random", "toy/reach", tmp_path / "store", episodes=2, machine=MACHINE)
    embedded = embed(EmbeddingRequest([mine], [tmp_path / "store"]), tmp_path / "embedding", MACHINE)
    assert extrapolation.plan.agents[0].code == embedded.record.models[0].code == entry.code
    code.write_text(source + "# changed\n")
    with pytest.raises(LramError, match="the source of own_leaky_agent has changed since; put it back"):
        resume(run, machine=MACHINE)
    with pytest.raises(LramError, match="the source of own_leaky_agent has changed since; put it back"):
        resume_extrapolation(extrapolation.path, machine=MACHINE)


def test_a_store_is_not_taken_for_one_of_other_code(own: Path) -> None:
    def again() -> Run:
        return collect({"own": spec(own)}, "toy/reach", "store", episodes=1, machine=MACHINE)

    assert len(again().records()) == 1
    assert len(again().records()) == 1  # it is there
    own.write_text("def chosen(seen):\n    return -0.5\n")
    with pytest.raises(LramError, match=f"the source of {own.stem} has changed since; put it back"):
        again()
    assert [len(run.records()) for run in resume_collection("store", trust=Trust(specs=[spec(own)]))] == [1]


def test_a_module_that_was_loaded_from_elsewhere_by_its_name_is_refused(own: Path) -> None:
    elsewhere = own.parent / "elsewhere" / own.name
    elsewhere.parent.mkdir()
    elsewhere.write_text(own.read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(elsewhere.parent))
        importlib.import_module(own.stem)
    assert evaluate({"own": spec(own)}, "toy/reach", "copy", episodes=1, machine=MACHINE)  # which is a copy
    elsewhere.write_text("def chosen(seen):\n    return -0.5\n")
    with pytest.raises(LramError) as error:
        evaluate({"own": spec(own)}, "toy/reach", "run", episodes=1, machine=MACHINE)
    assert f"would run the module {own.stem} from {elsewhere} and not from {own}" in str(error.value)
    assert "give one of the two files another name" in str(error.value)
    del sys.modules[own.stem], sys.modules[own.stem.removeprefix("helper_")]
    assert evaluate({"own": spec(own)}, "toy/reach", "run", episodes=1, machine=MACHINE)


def test_an_entry_point_runs_and_notes_what_is_installed_not_the_working_directory(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("theirs", spec(own), "lram.agents")
    monkeypatch.setattr("lram.agents.factory.entry_points", lambda group: (point,))
    monkeypatch.setattr("lram.agents.own_code.entry_points", lambda group: (point,))
    module = own.parent / f"{point.module}.py"
    checkout = own.parent / "checkout"
    checkout.mkdir()
    (checkout / module.name).write_text(f"{module.read_text()}# another branch\n")
    (checkout / own.name).write_text(own.read_text())
    monkeypatch.chdir(checkout)
    run = evaluate("theirs", "toy/reach", "run", episodes=1, machine=MACHINE)
    [entry] = run.plan.agents
    assert entry.code[point.module] == hashlib.sha256(module.read_bytes()).hexdigest()
    check_code(entry)
    with pytest.raises(LramError, match=f"{point.module} was noted as the working directory has it"):
        check_code(replace(entry, code=source_digests(point.module)))
    module.write_text(f"{module.read_text()}# changed\n")
    with pytest.raises(LramError, match=f"the source of {point.module} has changed since; put it back"):
        check_code(entry)


def test_code_is_looked_for_where_the_search_path_has_the_working_directory(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = own.parent / f"{spec(own).partition(':')[0]}.py"
    later = own.parent / "later"
    later.mkdir()
    (later / module.name).write_text(f"{module.read_text()}# another\n")
    monkeypatch.chdir(later)
    monkeypatch.setattr(sys, "path", [*sys.path, str(later)])
    run = evaluate({"own": spec(own)}, "toy/reach", "run", episodes=1, machine=MACHINE)
    [entry] = run.plan.agents
    assert entry.code[module.stem] == hashlib.sha256(module.read_bytes()).hexdigest()


def test_code_that_a_backbone_names_by_a_text_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "own_named"
    project.mkdir()
    (project / "__init__.py").write_text("")
    (project / "net.py").write_text("from own_named import parts\n")
    (project / "parts.py").write_text("")
    (project / "fast.py").write_text("")
    (project / "words.py").write_text("")
    (tmp_path / "own_named_spec.py").write_text(
        'SPEC = BackboneSpec("own", Options, "own_named.net:Net", fused="own_named.fast:Kernels.Step")\n'
        'NOTES = ["own_named.words: Net", "see own_named.words:Net", "nowhere.at_all:Net", "a:b:c"]\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = model_code({"backbone": "own_named_spec:SPEC"})
    assert set(found) == {"own_named_spec", "own_named", "own_named.net", "own_named.parts", "own_named.fast"}
    assert set(file_digests(tmp_path / "own_named_spec.py")) == {"own_named_spec"}  # as it always was


def test_a_session_notes_what_its_agents_were_made_of(own: Path) -> None:
    run = evaluate({"own": spec(own)}, "toy/reach", "run", episodes=1, machine=MACHINE)
    (session,) = run.provenance()
    name = own.stem.removeprefix("helper_")
    assert set(session.sources["own"]) == {f"module {name}", f"module {own.stem}"}
    assert session.sources["own"][f"module {own.stem}"] == run.plan.agents[0].code[own.stem]


class Weighted:
    """An agent given as an object, that reads weights."""

    def __init__(self, weights: Path) -> None:
        self.weights = np.load(weights)
        self.info = AgentInfo("model", "weighted", trained=True, digest=files_digest(weights))

    def refuses(self, task: object) -> None:
        return None

    def start(self, lanes: int) -> None:
        return None

    def reset(self, state: object, lanes: object, episodes: object) -> None:
        pass

    def act(self, state, observations, rewards, lanes):
        return [np.clip(self.weights[:2], -1, 1).astype(np.float32) for _ in lanes], state

    def state_bytes(self, state: object) -> int:
        return 0


@pytest.mark.slow
def test_changed_weights_are_refused_where_an_agent_tells_their_digest(tmp_path: Path) -> None:
    weights = tmp_path / "weights.npy"
    np.save(weights, np.array([0.5, 0.5]))
    run = forget(
        evaluate({"w": Weighted(weights)}, "toy/reach", tmp_path / "run", episodes=1, machine=MACHINE)
    )
    np.save(weights, np.array([0.5, -0.5]))
    with pytest.raises(LramError, match="agent w is not the one the run was started with"):
        resume(run, agents={"w": Weighted(weights)}, machine=MACHINE)
    np.save(weights, np.array([0.5, 0.5]))
    assert len(resume(run, agents={"w": Weighted(weights)}, machine=MACHINE).records()) == 1


def test_a_report_says_where_sessions_had_other_code_or_weights(own: Path) -> None:
    run = evaluate({"own": spec(own)}, "toy/reach", "run", episodes=2, machine=MACHINE)
    assert not [c for c in summarise([run]).caveats if c.kind == "several agents in one"]
    first, second = run.records()
    forget(run)
    (session,) = run.provenance()
    for record, digest in ((first, "a"), (second, "b")):
        with RunWriter(Run(run.path)) as writer:
            sources = {"own": {**session.sources["own"], "weights": digest}}
            writer.write_provenance(replace(session, sources=sources))
            writer.append(record)
    (caveat,) = [c for c in summarise([Run(run.path)]).caveats if c.kind == "several agents in one"]
    assert caveat.items == ("own: 2 versions of weights",)

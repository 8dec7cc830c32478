"""Studies of a user's own code: another source makes other cells and other data, and the old are kept."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from lram.agents import own_code
from lram.agents.checkpoints.folder import save_checkpoint
from lram.agents.model.config import config_from_dict
from lram.agents.model.network import build_model
from lram.agents.own_code import code_of
from lram.envs import registry
from lram.harness.collection.collect import collect
from lram.harness.evaluation import Machine
from lram.harness.storage.json_files import read_json, write_json
from lram.harness.studies import cells, running
from lram.harness.studies.cells import cells_of
from lram.harness.studies.folder import StudyFolder
from lram.harness.studies.running import ablate
from lram.harness.studies.study import Study, study_of

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "extending.md").read_text(encoding="utf-8")
[BACKBONE] = re.findall(r"^```python\n(# leaky_backbone.py\n.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
[DOMAIN] = re.findall(r"^```python\n(# number_line.py\n.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
AGENT = """
from lram.agents.experts.baselines import ConstantAgent


def make():
    return ConstantAgent(0.5)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder where Python finds a backbone, an agent and a file with a domain; no cell is made."""
    for name, text in (("own_leaky", BACKBONE), ("own_agent", AGENT), ("number_line", DOMAIN)):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(registry, "_in_files", {})
    monkeypatch.setattr(running, "_work", lambda *arguments: [])
    yield tmp_path
    for name in ("own_leaky", "own_agent"):
        sys.modules.pop(name, None)
    for cached in (registry.all_tasks, registry.load_domain, registry._faulty, registry._read_files):
        cached.cache_clear()


ON = {"model.actions_in_context": True}


def study(model: dict[str, Any], tasks: str = "toy/reach", **data: Any) -> Study:
    plain = {
        "name": "own",
        "question": "Is it the same code?",
        "seeds": [0],
        "recipe": {"model": {"width": 16, "layers": 2, **model}},
        "axes": [{"name": "axis", "levels": [{"name": "off"}, {"name": "on", "changes": ON}]}],
        "data": data or {"stores": ["/a"]},
        "evaluation": {"tasks": [tasks], "episodes": 2},
    }
    return study_of(plain, "a study", Path("/"))


OWN = {"backbone": "own_leaky:SPEC"}


def cell_of(asked: Study, **more: Any) -> Any:
    cell, _ = cells_of(asked, {"/a": "aa"}, ["toy:lram@1"], **more)
    return cell


def test_another_source_of_the_backbone_makes_another_cell(home: Path) -> None:
    first, built_in = cell_of(study(OWN)), cell_of(study({"gru": {"hidden": 8}}))
    assert set(first.code) == {"module own_leaky"}
    assert built_in.code == {}
    assert cell_of(study(OWN)) == first
    (home / "own_leaky.py").write_text(BACKBONE + "# changed\n")
    assert cell_of(study(OWN)).key != first.key
    assert cell_of(study({"gru": {"hidden": 8}})) == built_in


def test_a_source_is_read_once_for_all_cells_and_parsed_once_a_content(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Mock(wraps=cells.model_code)
    parsed = Mock(wraps=own_code._imported)
    monkeypatch.setattr(cells, "model_code", read)
    monkeypatch.setattr(own_code, "_imported", parsed)
    monkeypatch.setattr(own_code, "_IMPORTED", {})
    made = cells_of(replace(study(OWN), seeds=(0, 1, 2)), {"/a": "aa"}, ["toy:lram@1"])
    assert [set(cell.code) for cell in made] == [{"module own_leaky"}] * 6
    assert read.call_count == 2  # one a level: these name different fields of the model
    assert code_of("own_leaky:SPEC") == code_of("own_leaky:SPEC") == own_code.model_code(OWN)
    assert parsed.call_count == 1
    (home / "own_leaky.py").write_text(f"{BACKBONE}import own_agent\n")
    assert set(code_of("own_leaky:SPEC")) == {"own_leaky", "own_agent"}
    assert parsed.call_count == 3


def test_a_training_from_a_checkpoint_of_ones_own_backbone_is_of_its_source(home: Path) -> None:
    config = config_from_dict({"width": 16, "layers": 1, **OWN})
    save_checkpoint(home / "from", build_model(config, 0), config, trained=False, card={})
    plain = {"model": {"init_from": str(home / "from")}}
    asked = replace(study({}), recipe=plain, axes=study(OWN).axes)
    before = cell_of(asked)
    assert set(before.code) == {"module own_leaky"}
    assert set(code_of(str(home / "from"))) == {"own_leaky"}
    (home / "own_leaky.py").write_text(BACKBONE + "# changed\n")
    assert cell_of(asked).key != before.key


def test_another_domain_file_of_the_evaluation_makes_another_cell(home: Path) -> None:
    collect("random", "toy/reach", home / "store", episodes=2, machine=Machine(workers=1))
    registry.add_file(home / "number_line.py")
    asked = study({"gru": {"hidden": 8}}, "number_line/stay", stores=[str(home / "store")])
    first, _ = ablate(asked, home / "study")
    before, _ = first.plan.cells
    assert set(before.code) == {"domain number_line"}
    (home / "number_line.py").write_text(DOMAIN + "# changed\n")
    registry.add_file(home / "number_line.py")
    said: list[str] = []
    second, _ = ablate(asked, home / "study", say=said.append)
    after, _ = second.plan.cells
    assert after.key != before.key
    assert "the source of domain number_line has changed since this study was run last" in said[1]


def test_cells_that_were_made_without_noting_their_code_are_kept_and_said(home: Path) -> None:
    collect("random", "toy/reach", home / "store", episodes=2, machine=Machine(workers=1))
    asked = study(OWN, stores=[str(home / "store")])
    noted, _ = ablate(asked, home / "new")
    cell, other = noted.plan.cells
    assert cell.code
    # As an earlier version has it: the key of the content without the code.
    there = {earlier_folder(asked, noted)}
    unnoted, _ = cells_of(asked, noted.plan.stores, noted.plan.protocols, made=there)
    assert unnoted.unnoted
    content = read_json(noted.path / "study.json", dict[str, Any])
    del content["checksum"]
    del content["cells"][0]["code"]
    content["cells"][0].update(key=unnoted.key, folder=unnoted.folder)
    (home / "old" / "cells" / unnoted.folder).mkdir(parents=True)
    write_json(home / "old" / "study.json", content)
    assert StudyFolder(home / "old").plan.cells[0].code == {}
    for _ in range(2):  # also when the folder was continued once
        said: list[str] = []
        opened, _ = ablate(asked, home / "old", say=said.append)
        assert [one.key for one in opened.plan.cells] == [unnoted.key, other.key]
        assert "began under a version that did not note the code" in said[1]
    (home / "old" / "cells" / unnoted.folder).rmdir()
    opened, _ = ablate(asked, home / "old")
    assert [one.key for one in opened.plan.cells] == [cell.key, other.key]


def earlier_folder(asked: Study, opened: StudyFolder) -> str:
    """Return the folder of a study's first cell as versions that noted no code named it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "model_code", lambda model: {})
        cell, _ = cells_of(asked, opened.plan.stores, opened.plan.protocols)
    return cell.folder


def test_data_of_ones_own_agent_are_collected_anew_by_other_code(home: Path) -> None:
    asked = {"agents": ["own_agent:make"], "tasks": ["toy/reach"], "episodes": 1}
    made = study({"gru": {"hidden": 8}}, collect=[asked])
    first, _ = ablate(made, home / "study")
    said: list[str] = []
    again, _ = ablate(made, home / "study", say=said.append)
    assert again.plan.stores == first.plan.stores
    assert not any("collecting" in line for line in said)
    [store] = map(Path, first.plan.stores)
    # Data of an earlier version, which named them by what was asked for alone.
    earlier = store.with_name(running._digest8(made.data.collect[0]))
    assert earlier != store
    store.rename(earlier)
    store.with_name(f"{store.name}.json").rename(earlier.with_name(f"{earlier.name}.json"))
    kept, _ = ablate(made, home / "study")
    assert [Path(one) for one in kept.plan.stores] == [earlier]
    with (home / "own_agent.py").open("a") as file:
        file.write("# changed\n")
    other, _ = ablate(made, home / "study", say=said.append)
    assert not set(other.plan.stores) & {str(earlier), str(store)}
    [line] = [line for line in said if "has changed since the trajectories in" in line]
    assert line.startswith("the source of module own_agent has")

"""Single fields of run, latency, extrapolation, study, watch and training folders changed to hostile values.

Each change ends in a report or in one sentence. ``LRAM_HOSTILE_CHANGES=5000`` makes as many changes as that
(about a second each) in place of the sample, ``LRAM_HOSTILE_SEED`` other ones.
"""

from __future__ import annotations

import importlib.util
import os
import random
import re
import sys
from pathlib import Path

import pytest
from support.undrawn import undrawn

from lram.agents.api import AgentError
from lram.harness.errors import LramError
from lram.reports import load_trainings, write_report
from lram.reports.sections.registry import load_folders
from lram.reports.verdict.judging import judge
from lram.reports.verdict.sides import find_side

CHANGES = int(os.environ.get("LRAM_HOSTILE_CHANGES", "40"))
SEED = int(os.environ.get("LRAM_HOSTILE_SEED", "0"))
KINDS = (
    *("run", "parts", "latency", "extrapolation", "embedding", "study", "precision", "watch"),
    *("training", "unfinished"),
)


def _hostile_fields():
    spec = importlib.util.spec_from_file_location(
        "hostile_fields", Path(__file__).with_name("hostile_fields.py")
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fields = _hostile_fields()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return fields.make_folders(tmp_path_factory.mktemp("folders"))


def look(kind: str, path: Path) -> None:
    """Make the report of ``path`` and compare its agents, or see it refused in a sentence."""
    out = path.parent.parent / "out" / "report"
    try:
        if kind in ("training", "unfinished"):
            write_report([], out, trainings=load_trainings([str(path)]))
            return
        runs, others = load_folders([path])
        write_report(runs, out, others=others)
        for run in runs:
            labels = [agent.label for agent in run.plan.agents]
            judge(find_side(labels[0], runs), find_side(labels[-1], runs), resamples=50)
    except (LramError, AgentError) as error:
        if "\n" in str(error):
            pytest.fail(f"not one sentence: {error}")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_field_ends_in_a_report_or_in_a_sentence(folders, kind, tmp_path):
    draw = random.Random(f"{SEED} {kind}")
    for number in range(max(1, CHANGES // len(KINDS))):
        with undrawn(svg=number % 4 == 3):  # to draw is what takes the time: most changes are not drawn
            told = fields.try_one(folders[kind], kind, tmp_path / "work", draw, look)
        report = tmp_path / "work/out/report"
        if report.exists():
            check_report(report, f"change {number}, {told}")
        assert {entry.name for entry in (tmp_path / "work").iterdir()} <= {"in", "out"}, told
        assert {entry.name for entry in tmp_path.iterdir()} == {"work"}, told


def check_report(report: Path, told: str) -> None:
    """Fail where a report does more than show text."""
    html = (report / "index.html").read_text()
    assert html.count("<script") == 1, told
    assert not re.search(r"<[^>]*\s(src|on\w+)\s*=", re.sub(r"\"[^\"]*\"", '""', html)), told
    assert not re.search(r'<[^>]*\shref="(?!#|data:,|tables/|figures/|summary\.)', html), told
    for text in (html, (report / "summary.md").read_text()):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text), told
    assert not re.search(r"(?<!\\)!\[", (report / "summary.md").read_text()), told


@pytest.mark.parametrize("kind", ["training", "unfinished"])
@pytest.mark.parametrize("name", ["metrics.jsonl", "recipe.toml"])
def test_a_named_pipe_in_a_training_is_refused_at_once(folders, kind, name, tmp_path):
    import shutil

    copy = shutil.copytree(folders[kind], tmp_path / "copy")
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises(LramError, match=r"no regular file|has no recipe"):
        load_trainings([str(copy)])


@pytest.mark.parametrize("text", ["{1:" + "-" * 300_000 + "1}", "{[]: 1}", "{" * 5_000, "{'a': 9**9**9}"])
def test_a_setting_that_is_no_mapping_is_printed_as_it_is(text):
    from lram.reports.text import setting

    assert setting(text) == text
    assert setting("{'a': 1}") == "a 1"

"""A leaderboard of many folders: what compares stands together, two of one name are told apart."""

from __future__ import annotations

import csv
import json
import re
import zlib
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from support.undrawn import undrawn

from lram.harness.errors import LramError
from lram.reports.answer import ranked
from lram.reports.leaderboard_site import write_site
from lram.reports.leaderboard_site.folders import read_folders
from lram.reports.leaderboard_site.groups import group
from lram.reports.publishing import PublishRequest, publish
from lram.reports.publishing.cleaning import Cleaner
from lram.reports.summary.summarise import summarise

TASKS = ("toy/reach", "toy/steps", "other/walk", "other/run")


def outcome(level):
    def of(item):
        generator = np.random.default_rng(zlib.crc32(item.id.encode()))
        return float(level.get(item.agent, 0.5) + 0.1 * generator.normal())

    return of


def run_of(synthetic, name, agents, level, tasks=TASKS, episodes=5, seed=0, **plan):
    planned = synthetic.plan(agents, [synthetic.task(one) for one in tasks], episodes, seed, **plan)
    return synthetic.run(planned, outcome(level), name=name).path


def rows(site: Path, number: int = 1) -> list[dict[str, str]]:
    text = (site / f"leaderboard-{number}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.slow
def test_thirty_agents_of_several_folders_stand_in_one_table_by_score(synthetic, tmp_path):
    folders = thirty(synthetic)
    page = write_site(folders, tmp_path / "site", reports=False)
    found = rows(tmp_path / "site")
    assert len(found) == 30
    scores = [float(row["score"]) for row in found]
    assert scores == sorted(scores, reverse=True)
    summary = summarise(list(group(read_folders(folders))[0].runs))
    assert [(row["agent"], int(row["rank"]), row["tied"].lower() == "true") for row in found] == [
        (one.agent.label, one.rank, one.tied) for one in ranked(summary)
    ]
    assert {row["folders"] for row in found} == {folder.name for folder in folders}
    assert all(float(row["score_toy"]) and float(row["score_other"]) for row in found)
    html = page.read_text(encoding="utf-8")
    assert "http://" not in html.replace("http://www.w3.org", "")
    for row in found:
        assert html.count(f">{row['agent']}</a>") == 1


def thirty(synthetic) -> list[Path]:
    names = [f"agent-{number:02d}" for number in range(30)]
    level = {name: 0.2 + 0.02 * number for number, name in enumerate(names)}
    return [
        run_of(synthetic, f"lab-{part}", [synthetic.agent(name) for name in names[part::5]], level)
        for part in range(5)
    ]


def test_two_agents_of_one_label_are_told_apart_by_folder_and_one_agent_is_one_entry(synthetic, tmp_path):
    random = synthetic.agent("random", trained=None)
    first = run_of(synthetic, "lab-a", [synthetic.agent("mine", digest="a" * 64), random], {"mine": 0.9})
    second = run_of(
        synthetic, "lab-b", [synthetic.agent("mine", digest="b" * 64), random], {"mine": 0.4}, seed=1
    )
    write_site([first, second], tmp_path / "site", reports=False)
    found = {row["agent"]: row for row in rows(tmp_path / "site")}
    assert set(found) == {"mine (lab-a)", "mine (lab-b)", "random"}
    assert found["mine (lab-a)"]["digest"] == "a" * 64
    assert float(found["mine (lab-a)"]["score"]) > float(found["mine (lab-b)"]["score"])
    assert found["random"]["folders"] == "lab-a; lab-b"
    assert int(found["random"]["episodes"]) == 2 * len(TASKS) * 5, "episodes of two seeds add up"
    assert int(found["mine (lab-a)"]["episodes"]) == len(TASKS) * 5


@pytest.mark.parametrize("order", ["oab", "aob", "abo", "bao"])
def test_an_older_run_without_noted_code_makes_no_one_of_two_agents(synthetic, order):
    """It may be either of them, and so is neither: a third entry, whatever is named first."""
    codes = {"o": {}, "a": {"mine": "1" * 64}, "b": {"mine": "2" * 64}}
    paths = [
        run_of(synthetic, f"lab-{name}", [replace(synthetic.agent("mine"), code=codes[name])], {}, seed=seed)
        for seed, name in enumerate(order)
    ]
    [found] = group(read_folders(paths))
    assert found.sources == {f"mine (lab-{name})": (f"lab-{name}",) for name in order}
    two = [path for path in paths if path.name != "lab-b"]
    [found] = group(read_folders(two))
    assert found.sources == {"mine": tuple(path.name for path in two)}, "of one it may be, it is that one"
    assert found.entries["mine"].code == codes["a"]


def test_folders_of_one_name_are_two(synthetic, make_synthetic, tmp_path):
    (tmp_path / "x").mkdir()
    first = run_of(synthetic, "results", [synthetic.agent("mine", digest="a" * 64)], {})
    second = run_of(make_synthetic(tmp_path / "x"), "results", [synthetic.agent("mine", digest="b" * 64)], {})
    write_site([first, second, first], tmp_path / "site", reports=False)
    assert {row["agent"] for row in rows(tmp_path / "site")} == {"mine (results)", "mine (results-2)"}


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"tasks": TASKS[:2]}, "2 tasks of the first table are not in it (other/run, other/walk)"),
        ({"tasks": (*TASKS, "more/one")}, "1 task of it is not in the first table (more/one)"),
        ({"protocol": "sticky@1"}, "4 tasks ran under another protocol (other/run: other:sticky@1 here, "),
    ],
)
def test_what_does_not_compare_stands_apart_and_the_page_says_why(synthetic, tmp_path, other, why):
    folders = [
        run_of(synthetic, "lab-a", [synthetic.agent("one")], {}),
        run_of(synthetic, "lab-b", [synthetic.agent("two")], {}),
        run_of(synthetic, "lab-c", [synthetic.agent("three")], {}, **other),
    ]
    page = write_site(folders, tmp_path / "site", reports=False)
    assert {row["agent"] for row in rows(tmp_path / "site", 1)} == {"one", "two"}
    assert {row["agent"] for row in rows(tmp_path / "site", 2)} == {"three"}
    html = page.read_text(encoding="utf-8")
    assert why in html
    assert "2 tables do not compare" in html


@pytest.mark.usefixtures("no_figures")
def test_agents_of_another_rate_of_the_world_stand_apart_also_those_of_one_label(synthetic, tmp_path):
    late = {"mine": 0.9, "late": 0.95}
    plan = synthetic.plan(
        [synthetic.agent(label) for label in late], [synthetic.task(one) for one in TASKS], 5
    )
    folders = [
        run_of(synthetic, "lab", [synthetic.agent("mine"), synthetic.agent("other")], {"mine": 0.4}),
        run_of(synthetic, "more", [synthetic.agent("third")], {}),
        synthetic.run(replace(plan, realtime_hz=50.0), outcome(late), name="hurry").path,
    ]
    page = write_site(folders, tmp_path / "site", reports=False).read_text(encoding="utf-8")
    assert {row["agent"] for row in rows(tmp_path / "site")} == {"mine", "other", "third"}
    assert {row["agent"] for row in rows(tmp_path / "site", 2)} == {"mine", "late"}
    why = "its agents and those of the first table acted in worlds that waited and at 50 Hz"
    assert f"Not in the first table, because {why}." in page


@pytest.mark.usefixtures("no_figures")
def test_a_folder_of_two_rates_stands_in_two_tables(synthetic, tmp_path):
    tasks = [synthetic.task(one) for one in TASKS]
    plan = replace(synthetic.plan([synthetic.agent("a (50 Hz)")], tasks, 5), realtime_hz=50.0)
    runs = [run_of(synthetic, "waits", [synthetic.agent("a")], {}), synthetic.run(plan, outcome({})).path]
    publish(PublishRequest(runs), tmp_path / "both")
    write_site([tmp_path / "both"], tmp_path / "site", reports=False)
    shown = [{row["agent"]: row["folders"] for row in rows(tmp_path / "site", number)} for number in (1, 2)]
    assert shown == [{"a": "both"}, {"a (50 Hz)": "both"}]


def test_other_references_stand_apart(synthetic, tmp_path):
    plan = synthetic.plan([synthetic.agent("two")], [synthetic.task("toy/reach", reference=2.0)], 2)
    folders = [
        run_of(synthetic, "lab-a", [synthetic.agent("one")], {}, tasks=("toy/reach",)),
        synthetic.run(plan, lambda item: 1.0, name="lab-b").path,
    ]
    page = write_site(folders, tmp_path / "site", reports=False)
    assert "scores have other references (toy/reach)" in page.read_text(encoding="utf-8")


def test_another_source_of_a_domain_stands_apart_and_none_noted_compares_with_any(synthetic, tmp_path):
    files = {"lab-a": None, "lab-b": "aa", "lab-c": "bb", "lab-d": "aa"}
    folders = []
    for name, digest in files.items():
        run = run_of(synthetic, name, [synthetic.agent(name)], {}, episodes=2)
        if digest is not None:
            plan = json.loads((run / "run.json").read_text(encoding="utf-8"))
            plan["domain_files"] = {"toy": {"path": "PATH/toy.py", "digest": digest, "modules": {}}}
            del plan["checksum"]
            (run / "run.json").write_text(json.dumps(plan), encoding="utf-8")
        folders.append(run)
    page = write_site(folders, tmp_path / "site", reports=False)
    assert {row["agent"] for row in rows(tmp_path / "site", 1)} == {"lab-a", "lab-b", "lab-d"}
    assert {row["agent"] for row in rows(tmp_path / "site", 2)} == {"lab-c"}
    assert "another source of domain toy played it" in page.read_text(encoding="utf-8")


@pytest.fixture
def published(synthetic, tmp_path) -> Path:
    run = run_of(synthetic, "mine", [synthetic.agent("one")], {}, episodes=2)
    tool = Cleaner(home="/home/alice", user="alice", host="workstation9")
    with undrawn():
        publish(PublishRequest([run]), tmp_path / "published", tool)
    return tmp_path / "published"


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_report_is_made_of_the_records_and_a_strangers_page_is_not_put_on_the_site(
    synthetic, published, tmp_path
):
    other = run_of(synthetic, "lab b#1", [synthetic.agent("two")], {}, episodes=2)
    page = write_site([published, other], tmp_path / "site")
    html = page.read_text(encoding="utf-8")
    links = re.findall(r'href="(folders/[^"]+)"', html)
    assert set(links) == {"folders/published/report/index.html", "folders/lab%20b%231/report/index.html"}
    made = tmp_path / "site" / "folders" / "published" / "report"
    assert (made / "summary.json").read_bytes() == (published / "report" / "summary.json").read_bytes()
    assert (tmp_path / "site" / "folders" / "lab b#1" / "report" / "index.html").is_file()
    assert not list((tmp_path / "site").rglob("README.md")), "nothing is copied"


@pytest.mark.slow
def test_damaged_and_forged_folders_are_refused_by_name_and_nothing_is_written(
    synthetic, published, tmp_path
):
    segment = published / "runs" / "mine" / "records" / "0001.jsonl"
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-20])
    with pytest.raises(LramError, match=r"published/runs/mine/records/0001\.jsonl is not the file"):
        write_site([published], tmp_path / "site", reports=False)
    run = run_of(synthetic, "plain", [synthetic.agent("two")], {}, episodes=2)
    segment = run / "records" / "0001.jsonl"
    segment.write_bytes(
        re.sub(rb'"episode_return":0\.', b'"episode_return":9.', segment.read_bytes(), count=1)
    )
    with pytest.raises(LramError, match=r"plain/records/0001\.jsonl, line \d+ is damaged"):
        write_site([run], tmp_path / "site", reports=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LramError, match="empty is no publication and no run"):
        write_site([tmp_path / "empty"], tmp_path / "site", reports=False)
    assert not (tmp_path / "site").exists()


def test_an_earlier_site_is_replaced_and_nothing_else_is(synthetic, tmp_path):
    run = run_of(synthetic, "plain", [synthetic.agent("two")], {}, episodes=2)
    site = tmp_path / "site"
    before = write_site([run], site, reports=False).read_bytes()
    assert write_site([run], site, reports=False).read_bytes() == before, "equal records give equal bytes"
    (site / "notes.txt").write_text("mine")
    with pytest.raises(LramError, match=r"holds notes\.txt"):
        write_site([run], site, reports=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "index.html").write_text("somebody's")
    with pytest.raises(LramError, match="not empty and not a site"):
        write_site([run], tmp_path / "full", reports=False)
    with pytest.raises(LramError, match="write the site into another folder"):
        write_site([run], run, reports=False)


class Ids(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.targets, self.tags = [], [], Counter()

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name == "href" and value.startswith("#") and tag == "a":
                self.targets.append(value[1:])


def test_names_of_strangers_are_text_on_the_page_and_every_anchor_is_there_once(synthetic, tmp_path):
    hostile = '<script>alert("x")</script>'
    agents = [
        replace(synthetic.agent("one", description=hostile), spec=f"{hostile}/spec"),
        synthetic.agent(hostile),
    ]
    folders = [
        run_of(synthetic, "lab <b>bold", agents, {}, episodes=2),
        run_of(synthetic, "lab-c", [synthetic.agent("three")], {}, tasks=TASKS[:1], episodes=2),
    ]
    page = write_site(folders, tmp_path / "site", title=hostile, reports=False)
    html = page.read_text(encoding="utf-8")
    assert hostile not in html
    assert "<b>bold" not in html
    parsed = Ids()
    parsed.feed(html)
    assert parsed.tags["script"] == 1
    assert [one for one, times in Counter(parsed.ids).items() if times > 1] == []
    assert set(parsed.targets) <= set(parsed.ids)
    assert len(parsed.targets) >= 3


def seeds(synthetic, tasks=TASKS) -> list[Path]:
    """A run a training seed of two models."""
    level = {"a-0": 0.7, "a-1": 0.72, "a-2": 0.71, "b-0": 0.4, "b-1": 0.43, "b-2": 0.43}
    return [
        run_of(
            synthetic,
            f"seed-{seed}",
            [synthetic.agent(f"a-{seed}"), synthetic.agent(f"b-{seed}")],
            level,
            tasks=tasks,
            seed=seed,
        )
        for seed in range(3)
    ]


def test_models_stand_above_the_entries_by_their_trainings(synthetic, tmp_path):
    named = ["A <model>=a-*", "B=b-0,b-1,b-2"]
    page = write_site(seeds(synthetic), tmp_path / "site", reports=False, seeds_of=named)
    html = page.read_text(encoding="utf-8")
    heading = re.search(r'<h2 id="board-1-heading" class="verdict">(.*?)</h2>', html)[1]
    assert heading.startswith("A &lt;model&gt; has the highest score of the models")
    assert "over 3 trainings" in heading
    assert heading.endswith("is shown to be better than B.")
    assert html.index(heading) < html.index("Of single entries: ") < html.index("Models over their trainings")
    parsed = Ids()
    parsed.feed(html)
    assert [one for one, times in Counter(parsed.ids).items() if times > 1] == []
    with (tmp_path / "site" / "seeds_differences-1.csv").open() as file:
        [row] = csv.DictReader(file)
    assert (row["first"], row["second"], row["verdict"]) == ("A <model>", "B", "better")


def test_trainings_of_a_model_stand_in_one_table(synthetic, tmp_path):
    folders = [
        run_of(synthetic, "one", [synthetic.agent("a-0")], {}),
        run_of(synthetic, "two", [synthetic.agent("a-1")], {}, tasks=TASKS[:1]),
    ]
    with pytest.raises(
        LramError, match=r"'A' names entries of several tables, .*table 1 has a-0; table 2 has"
    ):
        write_site(folders, tmp_path / "site", reports=False, seeds_of=["A=a-*"])
    assert not (tmp_path / "site").exists()

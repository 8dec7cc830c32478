"""A publication: clean, whole, readable as the runs that it holds, and refused when it was changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import msgspec
import pytest
from support.undrawn import undrawn

from lram.agents.checkpoints.folder import load_checkpoint
from lram.harness.errors import LramError
from lram.harness.storage.records import Failure, given_up_words
from lram.harness.storage.run_folder import Run, RunWriter
from lram.reports import summarise
from lram.reports.comparison.pairs import Pairs
from lram.reports.model import Summary
from lram.reports.publishing import PublishRequest, publish, read_publication
from lram.reports.publishing.cards import CardFacts, _agents, _results, eval_results
from lram.reports.publishing.checkpoint import evaluated_checkpoint
from lram.reports.publishing.cleaning import Cleaner
from lram.reports.publishing.copying import copy_run
from lram.reports.publishing.manifest import MANIFEST, PublishedCheckpoint
from lram.reports.publishing.publication import _words
from lram.reports.publishing.yaml_text import yaml_text

SECRETS = ("/home/alice", "alice", "/scratch/group7", "gpu-node-42", "workstation9")


def cleaner(keep=()) -> Cleaner:
    return Cleaner(home="/srv/people/alice", user="alice", host="workstation9", keep=keep)


@pytest.fixture
def telling_run(synthetic) -> Run:
    """A run that tells of its user wherever one can."""
    agents = [
        replace(synthetic.agent("mine"), spec="/home/alice/checkpoints/mine"),
        synthetic.agent("random", trained=None),
    ]
    plan = synthetic.plan(agents, [synthetic.task("toy/reach"), synthetic.task("toy/steps")], 2)
    plan = replace(plan, interpreters={"toy": "/srv/people/alice/env/bin/python"})
    path = synthetic.folder / "telling"
    RunWriter.create(path, plan).close()
    with RunWriter(Run(path)) as writer:
        writer.write_provenance(
            replace(
                synthetic.provenance(),
                command="lram eval mine=/home/alice/checkpoints/mine -o /scratch/group7/alice/run "
                "--note alice@workstation9",
                settings={"lanes": "8", "log": "/home/alice/logs on workstation9"},
            )
        )
        for number, item in enumerate(plan.items()):
            record = synthetic.record(plan, item, 0.5 + number / 10)
            if number == 1:
                message = "worker died (File '/home/alice/lib/toy.py', line 3) on gpu-node-42"
                record = synthetic.record(plan, item, Failure("crash", message))
            if number > 4:
                record = replace(record, measured=replace(record.measured, node="gpu-node-42"))
            writer.append(record)
    return Run(path)


def everything(folder: Path) -> str:
    kinds = (".json", ".jsonl", ".md", ".html", ".csv", ".tex", ".yaml")
    return "\n".join(
        file.read_text(encoding="utf-8") for file in sorted(folder.rglob("*")) if file.suffix in kinds
    )


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_publication_is_clean_reads_as_the_run_and_tells_what_was_taken_out(telling_run, tmp_path):
    before = {file: file.read_bytes() for file in telling_run.path.rglob("*") if file.is_file()}
    publish(PublishRequest([telling_run.path]), tmp_path / "out", cleaner())
    assert {file: file.read_bytes() for file in telling_run.path.rglob("*") if file.is_file()} == before

    text = everything(tmp_path / "out")
    assert [secret for secret in SECRETS if secret in text] == []
    copy = Run(tmp_path / "out" / "runs" / "telling")
    assert copy.plan.agents[0].spec == "~/checkpoints/mine"
    assert copy.plan.interpreters == {"toy": "~/env/bin/python"}
    assert copy.without_checksums() == [], "every line and file has a checksum that holds"
    assert copy.missing() == []
    assert [
        replace(record, failure=None, measured=replace(record.measured, node="")) for record in copy.records()
    ] == [
        replace(record, failure=None, measured=replace(record.measured, node=""))
        for record in telling_run.records()
    ]
    assert copy.records()[1].failure.message == "worker died (File '~/lib/toy.py', line 3) on node-1"
    [session] = copy.provenance()
    assert session.command == "lram eval mine=~/checkpoints/mine -o PATH/run --note USER@HOST"

    manifest = read_publication(tmp_path / "out").manifest
    told = {one.file: one for one in manifest.cleaned}
    assert set(told) == {
        "runs/telling/run.json", "runs/telling/provenance/0001.json", "runs/telling/records/0001.jsonl"
    }  # fmt: skip
    assert told["runs/telling/run.json"].changes == {"home folders": 2}
    recorded = (telling_run.path / "records" / "0001.jsonl").read_bytes()
    assert told["runs/telling/records/0001.jsonl"].recorded_sha256 == hashlib.sha256(recorded).hexdigest()
    listed = {str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*") if f.is_file()}
    assert set(manifest.files) == listed - {MANIFEST}
    assert "report/index.html" in listed


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_what_has_nothing_to_clean_keeps_its_bytes(synthetic, tmp_path):
    plan = synthetic.plan([synthetic.agent("one")], [synthetic.task("toy/reach")], 2)
    run = synthetic.run(plan, lambda item: 0.5 + item.episode / 10, name="plain")
    publish(PublishRequest([run.path]), tmp_path / "out", cleaner())
    for name in ("run.json", "records/0001.jsonl", "provenance/0001.json"):
        assert (tmp_path / "out/runs/plain" / name).read_bytes() == (run.path / name).read_bytes()
    assert read_publication(tmp_path / "out").manifest.cleaned == ()


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/home/bob/x.py", "~/x.py"),
        ("file:///nfs/home/bob/a", "file://~/a"),
        ("--out=/Users/bob/a/b", "--out=~/a/b"),
        ("/root/.cache", "~/.cache"),
        ("/mnt/data/set/part", "PATH/part"),
        ("/usr/bin/python3.9", "/usr/bin/python3.9"),
        ("https://example.org/home/page", "https://example.org/home/page"),
        ("atari/freeway", "atari/freeway"),
        ("alice/checkpoints/mine", "USER/checkpoints/mine"),
        ("runs/alice/mine", "runs/USER/mine"),
        ("/scratch/alice/x", "PATH/x"),
        ("alice@cluster and malice/x", "USER@cluster and malice/x"),
        ("runs/home/a and 1/2", "runs/home/a and 1/2"),
        ("/srv/people/alice/x", "~/x"),
        ("/srv/people/alicent/x", "PATH/x"),
    ],
)
def test_paths_are_known_by_their_form(text, clean):
    assert cleaner().text(text) == clean


def test_machines_of_a_cluster_are_numbered_and_users_are_known_from_anybodys_paths():
    tool = cleaner()
    tool.learn({"message": "in /home/bob/x", "measured": {"node": "rack7"}})
    assert tool.value({"node": "rack7", "message": "bob lost rack7"}) == {
        "node": "node-1",
        "message": "USER lost node-1",
    }
    assert dict(tool.counts) == {"machine names": 2, "user names": 1}


def test_a_user_called_like_an_agent_leaves_the_agent_its_name():
    tool = Cleaner(home="/home/random", user="random", host="random", keep=["random", "toy/reach"])
    assert tool.text("lram eval random -o /home/random/x", worded=True) == "lram eval random -o ~/x"


def test_a_user_called_agent_takes_no_fault_from_the_agent(synthetic, tmp_path):
    given_up = Failure(
        "quarantine", f"{given_up_words('toy/t', 'b')}its first 2 errored, by: agent b gave NaN"
    )
    plan = synthetic.plan([synthetic.agent("b")], [synthetic.task("toy/t")], 3)
    run = synthetic.run(plan, lambda item: 10.0 if item.episode == 2 else given_up)
    tool = Cleaner(home="/home/agent", user="agent", host="workstation9")
    copy_run(run, tmp_path / "copy", "copy", tool)
    copied = Run(tmp_path / "copy").records()
    assert "with USER b" in copied[0].failure.message
    assert [one.failed_by_agent for one in copied] == [one.failed_by_agent for one in run.records()]
    assert [one.failed_by_agent for one in copied] == [True, True, False]


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures_but_svg")
def test_an_earlier_publication_is_replaced_whole_and_nothing_else_is(synthetic, tmp_path):
    plan = synthetic.plan([synthetic.agent("one")], [synthetic.task("toy/reach")], 1)
    run = synthetic.run(plan, lambda item: 0.5, name="plain")
    request, out = PublishRequest([run.path]), tmp_path / "out"
    publish(request, out, cleaner())
    first = {file.relative_to(out): file.read_bytes() for file in out.rglob("*") if file.is_file()}
    publish(request, out, cleaner())
    again = {file.relative_to(out): file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert again == first, "equal records give equal bytes"
    (out / "mine.txt").write_text("mine")
    with pytest.raises(LramError, match=r"holds mine\.txt, which no publication has"):
        publish(request, out, cleaner())
    assert (out / "mine.txt").read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir() if "lram-report" in entry.name] == []


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_what_fails_on_the_way_leaves_the_earlier_publication(synthetic, tmp_path, monkeypatch):
    plan = synthetic.plan([synthetic.agent("one")], [synthetic.task("toy/reach")], 1)
    run = synthetic.run(plan, lambda item: 0.5, name="plain")
    publish(PublishRequest([run.path]), tmp_path / "out", cleaner())
    before = (tmp_path / "out" / MANIFEST).read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lram.reports.publishing.publication.card", full)
    with pytest.raises(LramError, match="No space left"):
        publish(PublishRequest([run.path], title="other"), tmp_path / "out", cleaner())
    assert (tmp_path / "out" / MANIFEST).read_bytes() == before
    read_publication(tmp_path / "out")
    with pytest.raises(LramError, match="No space left"):
        publish(PublishRequest([run.path]), tmp_path / "new", cleaner())
    assert not (tmp_path / "new").exists()


def test_a_damaged_run_is_named_and_nothing_is_written(synthetic, tmp_path):
    plan = synthetic.plan([synthetic.agent("one")], [synthetic.task("toy/reach")], 2)
    run = synthetic.run(plan, lambda item: 0.5, name="plain")
    segment = run.path / "records" / "0001.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b"0.5", b"0.9", 1))
    with pytest.raises(LramError, match=r"plain/records/0001\.jsonl, line 1 is damaged"):
        publish(PublishRequest([run.path]), tmp_path / "out", cleaner())
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def made_once(make_synthetic, tmp_path_factory) -> Path:
    synthetic = make_synthetic(tmp_path_factory.mktemp("published"))
    plan = synthetic.plan([synthetic.agent("one")], [synthetic.task("toy/reach")], 1)
    run = synthetic.run(plan, lambda item: 0.5, name="plain")
    with undrawn():
        publish(PublishRequest([run.path]), synthetic.folder / "out", cleaner())
    return synthetic.folder / "out"


@pytest.fixture
def published(made_once, tmp_path) -> Path:
    return Path(shutil.copytree(made_once, tmp_path / "out"))


def test_a_changed_missing_or_added_file_is_refused_by_name(published):
    segment = published / "runs/plain/records/0001.jsonl"
    whole = segment.read_bytes()
    segment.write_bytes(whole.replace(b"0.5", b"0.9"))
    with pytest.raises(LramError, match=r"0001\.jsonl is not the file that .*manifest\.json names"):
        read_publication(published)
    segment.unlink()
    with pytest.raises(LramError, match=r"0001\.jsonl is missing"):
        read_publication(published)
    segment.write_bytes(whole)
    (published / "runs/plain/records/0002.jsonl").write_bytes(whole)
    with pytest.raises(LramError, match=r"0002\.jsonl is not in .*manifest\.json"):
        read_publication(published)


def test_a_manifest_edited_by_hand_or_leading_elsewhere_is_refused(published, tmp_path):
    file = published / MANIFEST
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"one"', b'"two"'))
    with pytest.raises(LramError, match=r"manifest\.json is damaged"):
        read_publication(published)
    plain = json.loads(whole)
    del plain["checksum"]
    (tmp_path / "secret").write_text("x")
    plain["files"]["../secret"] = {"sha256": hashlib.sha256(b"x").hexdigest(), "bytes": 1}
    file.write_bytes(msgspec.json.encode(plain))
    with pytest.raises(LramError, match="no file of its folder"):
        read_publication(published)


def test_a_manifest_that_tells_another_digest_than_the_plan_is_refused(published):
    file = published / MANIFEST
    plain = json.loads(file.read_bytes())
    del plain["checksum"]
    plain["runs"][0]["agents"][0]["digest"] = "0" * 64
    file.write_bytes(msgspec.json.encode(plain))
    with pytest.raises(LramError, match="other agents or digests"):
        read_publication(published)


def head(readme: Path) -> dict:
    yaml = pytest.importorskip("yaml")
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("---\n")
    return yaml.safe_load(text[4:].partition("\n---\n")[0])


def test_the_card_of_a_data_set_names_tables_that_are_there(published):
    found = head(published / "README.md")
    assert found["task_categories"] == ["reinforcement-learning"]
    assert "model-index" not in found, "the hub's specification of data set cards has none"
    for config in found["configs"]:
        assert (published / config["data_files"]).stat().st_size > 0


def facts_of(summary: Summary, label: str) -> CardFacts:
    about = {field.name: "n" for field in fields(PublishedCheckpoint)}
    checkpoint = PublishedCheckpoint(**{**about, "labels": (label,)})
    return CardFacts(summary, (), checkpoint, "", "", "", {}, frozenset())


def test_a_model_card_names_the_tasks_that_a_number_rests_on_and_its_doubts(synthetic):
    """One of three tasks has a score reference."""
    tasks = [
        synthetic.task("atari/freeway", 0.0, 1.0),
        synthetic.task("atari/pooyan", None, None),
        synthetic.task("dmcontrol/cartpole-balance", None, None),
    ]
    run = synthetic.run(synthetic.plan([synthetic.agent("x")], tasks, 4), lambda item: item.episode / 4)
    facts = facts_of(summarise(run), "x")
    whole, *_ = _results(facts, _agents(facts)[0])
    assert whole["dataset"]["name"] == "1 task of atari"
    assert whole["metrics"][0]["name"].endswith(" (few episodes)")
    assert "interval" in whole["metrics"][0]["name"]
    assert " (few episodes)" in eval_results(facts, "org/b", "t").decode()


def test_a_model_card_says_which_numbers_do_not_compare(synthetic):
    agents = [synthetic.agent("x"), synthetic.agent("y")]
    tasks = [synthetic.task("atari/freeway", 0.0, 1.0), synthetic.task("atari/pong", 0.0, 1.0)]

    def outcome(item):
        return None if item.agent == "x" and item.task == "atari/pong" else 0.5

    facts = facts_of(summarise(synthetic.run(synthetic.plan(agents, tasks, 3), outcome)), "x")
    for result in _results(facts, _agents(facts)[0]):
        assert "1 of 2 tasks" in result["dataset"]["name"]
        assert result["dataset"]["args"]["comparable"] is False
        name = result["metrics"][0]["name"]
        assert name.endswith("no interval: all equal, not comparable: unfinished, rests on 1 of 2 tasks")
    assert "not comparable: unfinished, rests on 1 of 2 tasks" in eval_results(facts, "org/b", "t").decode()


def test_a_model_card_says_by_whose_references_and_in_which_world_a_score_is(synthetic):
    task = synthetic.task("metaworld/reach-v3", 0.0, 2000.0)
    plan = synthetic.plan([synthetic.agent("x")], [task], 4)
    usual = synthetic.run(plan, lambda item: 500.0 + item.episode)
    late = synthetic.run(replace(plan, realtime_hz=50.0), lambda item: 500.0 + item.episode)
    shown = {}
    for run, normaliser in ((usual, "paper"), (late, "measured-random")):
        facts = facts_of(summarise(run, normaliser=normaliser), "x")
        notes = eval_results(facts, "org/b", "t").decode()
        assert f"; normaliser {normaliser}; protocols metaworld:lram@1; a world " in notes
        for result in _results(facts, _agents(facts)[0]):
            args = result["dataset"]["args"]
            shown[normaliser] = args["normaliser"], args.get("realtime_hz"), result["metrics"][0]["name"]
        assert ("a world at 50 Hz" if run is late else "a world that waited") in notes
    assert shown["paper"][:2] == ("paper", None)
    assert "world" not in shown["paper"][2]
    assert shown["measured-random"][:2] == ("measured-random", 50.0)
    assert ", normaliser measured-random, in a world at 50 Hz, " in shown["measured-random"][2]


@pytest.fixture
def shipped() -> Path:
    return Path(__file__).parents[2] / "agents" / "data" / "checkpoints" / "small-mamba"


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_the_card_of_a_model_has_the_results_of_these_weights(synthetic, tmp_path, shipped):
    _, meta = load_checkpoint(shipped)
    agents = [synthetic.agent("mamba", digest=meta.digest), synthetic.agent("random", trained=None)]
    tasks = [synthetic.task("toy/reach"), synthetic.task("other/steps")]
    run = synthetic.run(synthetic.plan(agents, tasks, 4), lambda item: 0.25 + item.episode / 10, name="plain")
    request = PublishRequest([run.path], shipped, licence="mit", benchmark="org/control:all")
    manifest = publish(request, tmp_path / "out", cleaner())
    found = head(tmp_path / "out" / "README.md")
    assert found["license"] == "mit"
    [index] = found["model-index"]
    assert index["name"] == manifest.checkpoint.name
    overall, *by_domain = index["results"]
    assert overall["metrics"][0]["type"] == "mean_of_domain_means"
    assert overall["metrics"][0]["value"] == pytest.approx(0.4)
    assert overall["metrics"][0]["verified"] is False
    assert [one["dataset"]["type"] for one in by_domain] == ["toy", "other"]
    assert manifest.checkpoint.labels == ("mamba",)
    assert (
        manifest.checkpoint.files["config.json"]
        == hashlib.sha256((shipped / "config.json").read_bytes()).hexdigest()
    )
    yaml = pytest.importorskip("yaml")
    [entry] = yaml.safe_load((tmp_path / "out" / ".eval_results" / "lram-bench.yaml").read_text())
    assert entry["dataset"] == {"id": "org/control", "task_id": "all"}
    assert entry["value"] == pytest.approx(0.4)
    assert entry["date"] == "2026-01-05"
    assert not [file for file in manifest.files if file.endswith(".safetensors")]
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.eval_results[0].metric_value == pytest.approx(0.4)


@pytest.mark.usefixtures("no_figures")
def test_an_agent_with_noise_is_not_the_checkpoint_behind_it(synthetic, tmp_path, shipped):
    _, meta = load_checkpoint(shipped)
    noisy = replace(synthetic.agent("half", digest=meta.digest), spec="small-mamba~0.5")
    plain = replace(synthetic.agent("all", digest=meta.digest), spec="small-mamba")
    task = synthetic.task("toy/reach")
    alone = synthetic.run(synthetic.plan([noisy], [task], 2), lambda item: 0.2, name="alone")
    with pytest.raises(LramError, match=r"played with random actions among its own only \(half: small-"):
        evaluated_checkpoint(shipped, [alone])
    both = synthetic.run(synthetic.plan([noisy, plain], [task], 2), lambda item: 0.2, name="both")
    assert evaluated_checkpoint(shipped, [both]).labels == ("all",)


@pytest.mark.usefixtures("no_figures")
def test_a_label_that_is_a_path_is_the_same_agent_in_the_copies(synthetic, tmp_path, shipped):
    _, meta = load_checkpoint(shipped)
    label = "/home/alice/a/ck"
    agents = [synthetic.agent(label, digest=meta.digest), synthetic.agent("fine")]
    plan = synthetic.plan(agents, [synthetic.task("toy/reach")], 4)
    run = synthetic.run(plan, lambda item: 0.25 + item.episode / 10, name="paths")
    for pairs in (Pairs(baselines=(label,)), Pairs(named=(("fine", label),))):
        request = PublishRequest([run.path], shipped, pairs=pairs, benchmark="org/b:all")
        manifest = publish(request, tmp_path / "out", cleaner())
        assert manifest.checkpoint.labels == ("~/a/ck",)
        text = everything(tmp_path / "out")
        assert "alice" not in text
        assert "evaluated as \\~/a/ck" in text or "evaluated as ~/a/ck" in text
        assert '"model-index":' in text or "model-index:" in text
        table = (tmp_path / "out" / "report" / "tables" / "comparisons.csv").read_text()
        assert "fine" in table
        assert "~/a/ck" in table


def test_a_user_in_a_label_that_is_a_path_is_no_word_to_keep(synthetic):
    agents = [synthetic.agent("/home/alice/a/ck"), synthetic.agent("bob/mine")]
    run = synthetic.run(synthetic.plan(agents, [synthetic.task("toy/reach")], 1), lambda item: 0.5)
    words = _words([run])
    assert "alice" not in words
    assert {"ck", "bob", "mine", "toy", "reach"} <= set(words)
    found = Cleaner(home="/home/alice", user="alice", host="", keep=words)
    assert found.text("alice was here, bob too", worded=True) == "USER was here, bob too"


def test_labels_that_are_paths_and_end_alike_are_refused_by_name(synthetic, tmp_path):
    tasks = [synthetic.task("toy/reach")]
    agents = [synthetic.agent(f"/home/{user}/ck") for user in ("alice", "bob")]
    both = synthetic.run(synthetic.plan(agents, tasks, 1), lambda item: 0.5, name="both")
    with pytest.raises(LramError, match=r"both: .*'/home/bob/ck' and '/home/alice/ck' are both called"):
        publish(PublishRequest([both.path]), tmp_path / "out", cleaner())
    runs = [
        synthetic.run(synthetic.plan([agent], tasks, 1), lambda item: 0.5, name=f"run-{number}").path
        for number, agent in enumerate(agents)
    ]
    with pytest.raises(
        LramError, match=r"'/home/alice/ck' of .*run-0 are both .* or publish the two runs apart"
    ):
        publish(PublishRequest(runs), tmp_path / "out", cleaner())
    assert not (tmp_path / "out").exists()


def test_names_in_a_record_that_become_equal_stay_two():
    found = cleaner().value({"/home/a/x": 1, "/home/b/x": 2, "n": {"/tmp/m/x": 3}})
    assert found == {"~/x": 1, "~/x (2)": 2, "n": {"PATH/x": 3}}


@pytest.mark.slow
def test_a_checkpoint_that_was_not_evaluated_gets_no_card(synthetic, tmp_path, shipped):
    plan = synthetic.plan([synthetic.agent("one")], [synthetic.task("toy/reach")], 1)
    run = synthetic.run(plan, lambda item: 0.5, name="plain")
    with pytest.raises(LramError, match="no agent is the checkpoint"):
        publish(PublishRequest([run.path], shipped), tmp_path / "out", cleaner())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1e-05, "b": 1e22, "c": -0.5, "d": 3, "e": None, "f": True},
        {"text": "yes", "colon": "a: b # c", "quote": 'say "x"', "odd": "ä\U0001f600", "lines": "a\nb"},
        [{"a": [1, 2], "b": {"c": []}}, {"d": {}}, "x"],
        {"model-index": [{"name": "m", "results": [{"task": {"type": "rl"}}]}]},
    ],
)
def test_yaml_reads_back_as_it_was(value):
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(yaml_text(value)) == value

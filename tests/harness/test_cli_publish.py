"""``lram publish`` and its way to the hub: a server of the test's own, the real client, and none at all."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from support.ready import ready_python
from support.undrawn import undrawn

from lram.harness import hub
from lram.harness.cli import app
from lram.harness.errors import LramError
from lram.harness.storage.run_folder import Run
from lram.reports.publishing import read_publication


def called(words: list[str]) -> int:
    return app(words, exit_on_error=False, result_action="return_value")


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as making a repository and committing to it takes."""

    def _answer(self, code: int, body: object = None) -> None:
        content = json.dumps(body).encode() if body is not None else b""
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        name = self.path.partition("/resolve/main/")[2]
        self.server.asked.append(("HEAD", self.path))
        if name not in self.server.files:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        for key, value in (("X-Repo-Commit", "c0"), ("ETag", '"e0"'), ("Content-Length", "1")):
            self.send_header(key, value)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.asked.append(("GET", self.path))
        self._answer(404, {"error": "nothing here"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(("POST", self.path))
        self.server.tokens.add(self.headers.get("Authorization", ""))
        address = f"http://{self.headers['Host']}"
        if self.server.refuses:
            self._answer(403, {"error": "the namespace is not yours"})
        elif self.path.startswith("/api/repos/create"):
            self.server.created.append(json.loads(body))
            self._answer(200, {"url": f"{address}/datasets/somebody/results"})
        elif self.path.startswith("/api/validate-yaml"):
            self._answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for file in json.loads(body)["files"]
            ]
            self._answer(200, {"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    assert value["encoding"] == "base64"
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
            self._answer(
                200,
                {
                    "commitUrl": f"{address}/datasets/somebody/results/commit/c1",
                    "commitOid": "c1",
                    "success": True,
                },
            )
        else:
            self._answer(404, {"error": "no such place"})

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server():
    made = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    made.asked, made.files, made.created, made.tokens, made.refuses = [], {}, [], set(), False
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "tiny"
    assert called(["eval", "random", "scripted", "-t", "toy/reach", "-n", "2", "-o", str(path), "-q"]) == 0
    return path


def pushed(run: Path, out: Path, server, home: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, with the hub of the test."""
    command = [*ready_python(), "-m", "lram.harness.cli", "publish", str(run), "-o", str(out), *more]
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
        "HF_TOKEN": "hf_of_the_test",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, check=False)


@pytest.mark.slow
def test_a_push_sends_every_file_and_nothing_is_sent_without_one(run, tmp_path, server):
    pytest.importorskip("huggingface_hub")
    done = pushed(run, tmp_path / "out", server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert server.asked == []

    done = pushed(run, tmp_path / "out", server, tmp_path, "--push", "somebody/results")
    assert done.returncode == 0, done.stderr
    assert "pushed: http://127.0.0.1" in done.stdout
    [created] = server.created
    assert (created["name"], created["organization"], created["type"]) == ("results", "somebody", "dataset")
    assert created.get("private") is True or created.get("visibility") == "private"
    assert server.tokens == {"Bearer hf_of_the_test"}
    there = {
        str(file.relative_to(tmp_path / "out")): file.read_bytes()
        for file in (tmp_path / "out").rglob("*")
        if file.is_file()
    }
    assert server.files == there

    # A second push replaces what is ours; the card of somebody else is not replaced.
    again = pushed(run, tmp_path / "out", server, tmp_path, "--push", "somebody/results")
    assert again.returncode == 0, again.stderr
    del server.files["manifest.json"]
    refused = pushed(run, tmp_path / "out", server, tmp_path, "--push", "somebody/results")
    assert refused.returncode == 2
    assert "would be replaced" in refused.stderr
    server.refuses = True
    refused = pushed(run, tmp_path / "out", server, tmp_path, "--push", "somebody/results")
    assert refused.returncode == 2
    told = [line for line in refused.stderr.splitlines() if not line.endswith(" so far")]  # on a slow machine
    assert len(told) == 1, refused.stderr
    assert "could not be pushed to" in refused.stderr
    read_publication(tmp_path / "out")


def test_a_missing_package_or_token_is_one_sentence_before_any_work(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    command = ["publish", str(run), "-o", str(tmp_path / "out"), "--push", "somebody/results"]
    with pytest.raises(LramError, match=r"needs the package huggingface_hub .*lram-bench\[hub\]"):
        called(command)
    fake = ModuleType("huggingface_hub")
    fake.get_token = lambda: None
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    with pytest.raises(LramError, match="needs a token"):
        called(command)
    assert not (tmp_path / "out").exists()


class FakeApi:
    """Notes what it is asked for."""

    def __init__(self, files=()):
        self.calls, self.files = [], set(files)

    def create_repo(self, **how):
        self.calls.append(("create_repo", how))

    def file_exists(self, filename, **how):
        return filename in self.files

    def upload_folder(self, **how):
        self.calls.append(("upload_folder", how))
        return SimpleNamespace(pr_url="pr" if how["create_pr"] else None, commit_url="commit")


def test_a_pull_request_is_proposed_where_the_card_is_somebody_elses(tmp_path):
    api = FakeApi({"README.md"})
    there = hub.HubRepository("a/b", "model")
    with pytest.raises(LramError, match=r"README\.md that 'lram publish' did not write"):
        hub.push(api, tmp_path, there, "manifest.json")
    assert [name for name, _ in api.calls] == ["create_repo"]
    proposed = hub.HubRepository("a/b", "model", pull_request=True)
    assert hub.push(api, tmp_path, proposed, "manifest.json") == "pr"
    assert api.calls[-1][1]["create_pr"] is True
    assert hub.push(FakeApi({"README.md", "manifest.json"}), tmp_path, there, "manifest.json") == "commit"


@pytest.mark.slow
def test_a_publication_of_a_real_run_is_reported_and_resumed_like_the_run(run, tmp_path, capsys):
    with undrawn():
        assert called(["publish", str(run), "-o", str(tmp_path / "out")]) == 0
    assert "taken out:" in capsys.readouterr().out
    copy = tmp_path / "out" / "runs" / "tiny"
    assert called(["resume", str(copy), "-q"]) == 0
    with undrawn():
        assert called(["report", str(copy), "-o", str(tmp_path / "report")]) == 0
    for name in ("summary.json", "tables/episodes.csv"):
        assert (tmp_path / "report" / name).read_bytes() == (tmp_path / "out/report" / name).read_bytes()
    assert [r.trajectory for r in Run(copy).records()] == [r.trajectory for r in Run(run).records()]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--card", "model"], "go together"),
        (["--checkpoint", "x"], "go together"),
        (["--public"], "add --push"),
        (["--benchmark", "org/name:task"], "card of a model"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_sentence(run, tmp_path, more, said):
    with pytest.raises(LramError, match=said):
        called(["publish", str(run), "-o", str(tmp_path / "out"), *more])
    assert not (tmp_path / "out").exists()


def test_what_is_no_evaluation_is_refused(tmp_path, run):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "latency.json").write_text("{}")
    with pytest.raises(LramError, match="is a latency measurement"):
        called(["publish", str(tmp_path / "sweep"), "-o", str(tmp_path / "out")])
    with pytest.raises(LramError, match="holds the run"):
        called(["publish", str(run), "-o", str(run)])

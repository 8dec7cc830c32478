"""The section of films: copied whole, shown offline, of this report's episodes and of no others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.forging import forge

from lram.harness.cli.report import report
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine, evaluate
from lram.harness.films import FilmMaker, choose
from lram.harness.films.choosing import pairs_to_compare
from lram.harness.replay import scored
from lram.harness.storage.films import FILMS_FILE, FilmedEpisode, FilmEntry, digest, read_films, write_films
from lram.harness.storage.run_folder import Run
from lram.reports import write_report
from lram.reports.sections.films.section import check_films, section

pytest.importorskip("av")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A run, a folder of films of single episodes, and one of a divergence."""
    place = tmp_path_factory.mktemp("films")
    run = evaluate(["random", "scripted"], "toy/reach", place / "run", episodes=2, machine=Machine(workers=1))
    records = scored(run)
    FilmMaker(run, place / "films").episodes(choose(records, ["best"]))
    FilmMaker(run, place / "apart").divergences(pairs_to_compare(records, ["random", "scripted"], None))
    return run.path, place / "films", place / "apart"


def fake(folder: Path, **changes: object) -> FilmEntry:
    """Write a folder with one film that is none, and its list."""
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"film")
    episode = FilmedEpisode("<b>a</b>", "toy/reach", 0, "best", 1.5, 30, None, "0badc0de")
    facts = {
        "file": "a.mp4",
        "kind": "episode",
        "run": "run",
        "episodes": (episode,),
        "frames": 31,
        "fps": 30,
        "height": 64,
        "width": 64,
        "sha256": digest(folder / "a.mp4"),
        **changes,
    }
    entry = FilmEntry(**facts)  # type: ignore[arg-type]
    write_films(folder, [entry])
    return entry


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_films_are_copied_and_shown_and_the_report_can_be_replaced(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    run, films, apart = made
    place = tmp_path / "report"
    for _ in range(2):
        assert report([run], film=[films, apart], output=place) == 0
    page = (place / "index.html").read_text()
    shown = re.findall(r'<video [^>]*src="([^"]+)"', page)
    listed = [*read_films(films), *read_films(apart)]
    assert shown == [f"films/{film.file}" for film in listed]
    assert len(shown) == 3
    for film in listed:
        assert digest(place / "films" / film.file) == film.sha256
    assert "Episodes to watch" in page
    assert "they first differ at step 1" in page
    assert "media-src" in page
    summary = json.loads((place / "summary.json").read_text())
    assert [film["kind"] for film in summary["chapters"]["films"]] == ["episode", "episode", "divergence"]
    assert len((place / "tables" / "films_episodes.csv").read_text().splitlines()) == 1 + 4
    # A film that this report did not write is somebody's.
    (place / "films" / "mine.mp4").touch()
    with pytest.raises(LramError, match=r"holds films/mine.mp4"):
        report([run], output=place)
    (place / "films" / "mine.mp4").unlink()
    assert report([run], output=place) == 0
    assert not (place / "films").exists()
    assert "media-src" not in (place / "index.html").read_text()


def test_films_of_other_episodes_are_refused(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    import shutil

    run, films, _ = made
    other = Path(shutil.copytree(run, tmp_path / "other"))
    forge(other, lambda record: {"trajectory": "0badc0de"})
    check_films([films], [Run(run), Run(other)])
    with pytest.raises(LramError, match="not an episode of this report's runs"):
        report([other], film=[films], output=tmp_path / "report")
    with pytest.raises(LramError, match=r"has no films.json"):
        report([run], film=[run], output=tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.usefixtures("no_figures")
def test_films_stand_alone_and_what_a_list_says_is_text(tmp_path: Path) -> None:
    fake(tmp_path / "films")
    fake(tmp_path / "more")
    folders = [tmp_path / "films", tmp_path / "more"]
    index = write_report((), tmp_path / "report", others={"films": folders})
    page = index.read_text()
    assert "&lt;b&gt;a&lt;/b&gt; on toy/reach, episode 0 (best): return 1.5" in page
    assert "<b>a</b>" not in page
    assert {file.name for file in (index.parent / "films").iterdir()} == {"a.mp4", "2-a.mp4"}


def test_a_film_that_is_not_the_listed_one_or_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    fake(tmp_path / "films")
    (tmp_path / "films" / "a.mp4").write_bytes(b"another")
    with pytest.raises(LramError, match="is not the film that"):
        section([tmp_path / "films"])
    (tmp_path / "films" / "a.mp4").unlink()
    with pytest.raises(LramError, match="cannot be read"):
        section([tmp_path / "films"])
    for name in ("../a.mp4", "/etc/passwd", "a.html", ".a.mp4", "a b.mp4"):
        write_films(tmp_path / "films", [fake(tmp_path / f"x{len(name)}{name[-1]}", file=name)])
        with pytest.raises(LramError, match="is no film in its folder"):
            read_films(tmp_path / "films")
    (tmp_path / "films" / FILMS_FILE).unlink()
    with pytest.raises(LramError, match="lram film RUN"):
        read_films(tmp_path / "films")

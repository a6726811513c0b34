import dataclasses
import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jars
from jars import Downloads, Jar, JarError, Progress
from setup.maven_repository import Repository, serving

CONTENT = bytes(range(256)) * 4000
JAR = Jar("org.example:numbers:1.0", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), ("example",))
OTHER = Jar("org.example:letters:2.0", hashlib.sha256(b"abc").hexdigest(), 3, ("example", "other"))


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serving() as repository:
        repository.files = {f"maven2/{JAR.path}": CONTENT, f"maven2/{OTHER.path}": b"abc"}
        yield repository


@pytest.fixture
def downloads(repository: Repository, tmp_path: Path) -> Downloads:
    return Downloads(tmp_path / "cache", repository.url, attempts=3, pause_seconds=0, progress=Progress(io.StringIO()))


def said(downloads: Downloads) -> str:
    assert isinstance(downloads.progress.stream, io.StringIO)
    return downloads.progress.stream.getvalue()


def leave_a_part(downloads: Downloads, content: bytes) -> None:
    downloads.cache.mkdir()
    (downloads.cache / f"{JAR.sha256}.part").write_bytes(content)


def test_a_jar_is_asked_for_by_its_path_in_a_maven_repository(downloads: Downloads, repository: Repository) -> None:
    files = downloads.fetch([JAR])

    assert repository.requests == [("maven2/org/example/numbers/1.0/numbers-1.0.jar", "")]
    assert files["numbers-1.0.jar"].read_bytes() == CONTENT


def test_a_download_whose_connection_breaks_goes_on_where_it_was(downloads: Downloads, repository: Repository) -> None:
    repository.answers = ["cut:700000", "cut:100000"]

    files = downloads.fetch([JAR])

    assert [asked for _, asked in repository.requests] == ["", "bytes=700000-", "bytes=800000-"]
    assert files[JAR.file_name].read_bytes() == CONTENT


def test_a_run_goes_on_with_what_an_earlier_run_has_left(downloads: Downloads, repository: Repository) -> None:
    leave_a_part(downloads, CONTENT[:5])

    assert downloads.fetch([JAR])[JAR.file_name].read_bytes() == CONTENT
    assert [asked for _, asked in repository.requests] == ["bytes=5-"]


def test_a_complete_file_that_an_earlier_run_has_left_is_not_asked_for(
    downloads: Downloads, repository: Repository
) -> None:
    leave_a_part(downloads, CONTENT)

    assert downloads.fetch([JAR])[JAR.file_name].read_bytes() == CONTENT
    assert repository.requests == []


@pytest.mark.parametrize("left", [b"\xff" * 5, CONTENT + b"more"], ids=["wrong bytes", "too many bytes"])
def test_a_bad_leftover_does_not_spoil_the_download(downloads: Downloads, left: bytes) -> None:
    leave_a_part(downloads, left)

    assert downloads.fetch([JAR])[JAR.file_name].read_bytes() == CONTENT


def test_a_server_that_knows_no_ranges_sends_everything_again(downloads: Downloads, repository: Repository) -> None:
    repository.answers = ["cut:700000", "no-range"]

    assert downloads.fetch([JAR])[JAR.file_name].read_bytes() == CONTENT


@pytest.mark.parametrize(
    "sent",
    [CONTENT[:-1] + b"!", b"<html>please log in</html>", CONTENT + b"!"],
    ids=["another byte", "a page in its place", "a byte more"],
)
def test_a_wrong_checksum_names_the_file_and_both_sums_and_leaves_nothing(
    downloads: Downloads, repository: Repository, sent: bytes
) -> None:
    repository.files[f"maven2/{JAR.path}"] = sent

    with pytest.raises(JarError) as refused:
        downloads.fetch([JAR])

    message = str(refused.value)
    assert "numbers-1.0.jar has the wrong checksum" in message
    assert JAR.sha256 in message
    assert hashlib.sha256(sent).hexdigest() in message
    assert f"{repository.url}/{JAR.path}" in message
    assert "Run the command again" in message
    assert [path.name for path in downloads.cache.iterdir()] == ["download.lock"]


def test_a_cached_jar_is_not_asked_for(downloads: Downloads, repository: Repository) -> None:
    downloads.fetch([JAR, OTHER])
    repository.requests.clear()

    downloads.fetch([OTHER, JAR])

    assert repository.requests == []


def test_a_run_that_finds_all_in_the_cache_does_not_wait_for_one_that_downloads(downloads: Downloads) -> None:
    downloads.fetch([JAR])

    with jars.alone(downloads.cache / "download.lock", "busy"):
        assert downloads.fetch([JAR])[JAR.file_name].read_bytes() == CONTENT


def test_a_jar_that_was_damaged_in_the_cache_is_noticed_and_downloaded_again(
    downloads: Downloads, repository: Repository
) -> None:
    cached = downloads.fetch([JAR])[JAR.file_name]
    cached.chmod(0o644)
    cached.write_bytes(b"!" + CONTENT[1:])

    assert downloads.fetch([JAR])[JAR.file_name].read_bytes() == CONTENT
    assert len(repository.requests) == 2
    assert "numbers-1.0.jar is damaged in the cache" in said(downloads)


def test_a_server_that_is_busy_is_asked_again(downloads: Downloads, repository: Repository) -> None:
    repository.answers = ["503", "429"]

    assert downloads.fetch([JAR])[JAR.file_name].read_bytes() == CONTENT


def test_a_server_that_does_not_have_the_jar_is_asked_once(downloads: Downloads, repository: Repository) -> None:
    del repository.files[f"maven2/{JAR.path}"]

    with pytest.raises(JarError, match=r"numbers-1\.0\.jar: http://.*/numbers-1\.0\.jar answers 404"):
        downloads.fetch([JAR])
    assert len(repository.requests) == 1


def test_a_server_that_stays_busy_is_given_up_and_what_arrived_is_kept(
    downloads: Downloads, repository: Repository
) -> None:
    repository.answers = ["cut:700000", "503", "503", "503"]

    with pytest.raises(JarError, match=r"numbers-1\.0\.jar could not be downloaded .*503.*run the command again"):
        downloads.fetch([JAR])
    assert (downloads.cache / f"{JAR.sha256}.part").read_bytes() == CONTENT[:700000]


def test_a_connection_that_breaks_often_is_no_reason_to_give_up_while_it_gets_further(
    downloads: Downloads, repository: Repository
) -> None:
    repository.answers = ["cut:100000"] * 8

    assert downloads.fetch([JAR])[JAR.file_name].read_bytes() == CONTENT


def test_a_repository_that_is_no_address_is_refused(downloads: Downloads) -> None:
    with pytest.raises(JarError, match="MAVEN_REPOSITORY must be an http or https address, but it is 'file:///etc'"):
        dataclasses.replace(downloads, repository="file:///etc").fetch([JAR])


def test_without_a_terminal_each_file_is_one_line(downloads: Downloads) -> None:
    downloads.fetch([JAR, OTHER])

    assert said(downloads) == "[1/2] numbers-1.0.jar (1.0 MB)\n[2/2] letters-2.0.jar (0.0 MB)\n"


def test_on_a_terminal_there_is_a_bar(downloads: Downloads) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    progress = Progress(Terminal())
    dataclasses.replace(downloads, progress=progress).fetch([JAR])

    drawn = progress.stream.getvalue().split("\r")  # type: ignore[attr-defined]
    assert any("#" in line and "% of 1.0 MB" in line and "MB/s" in line for line in drawn)
    assert drawn[-1].endswith("[1/1] numbers-1.0.jar (1.0 MB)\n")
    assert sum(line.count("\n") for line in drawn) == 1


def lock_file(folder: Path) -> Path:
    entries = [
        f'[[jar]]\ncoordinates = "{jar.coordinates}"\nsha256 = "{jar.sha256}"\nsize = {jar.size}\n'
        f"sets = {list(jar.sets)!r}\n"
        for jar in (JAR, OTHER)
    ]
    path = folder / "jars.lock"
    path.write_text("version = 1\n" + "\n".join(entries))
    return path


def command(folder: Path, repository: Repository, *arguments: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, jars.__file__, "--lock", lock_file(folder), *arguments],
        env=os.environ | {"MAVEN_REPOSITORY": repository.url, "XDG_CACHE_HOME": str(folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_runs_at_a_time_download_each_jar_once(repository: Repository, tmp_path: Path) -> None:
    repository.gate.clear()
    with command(tmp_path, repository, "example") as first:
        assert first.stderr is not None
        assert first.stderr.readline() == "[1/2] numbers-1.0.jar (1.0 MB)\n"
        with command(tmp_path, repository, "example") as second:
            assert second.stderr is not None
            assert second.stderr.readline() == "another run is downloading jars: waiting for it\n"
            repository.gate.set()
            answers = first.communicate(timeout=30), second.communicate(timeout=30)

    assert (first.returncode, second.returncode) == (0, 0)
    assert len(repository.requests) == 2
    paths = [Path(line) for line in answers[0][0].splitlines()]
    assert [path.read_bytes() for path in paths] == [CONTENT, b"abc"]
    assert answers[0][0] == answers[1][0]


def test_a_set_that_is_not_there_is_one_sentence_that_names_the_sets(repository: Repository, tmp_path: Path) -> None:
    with command(tmp_path, repository, "exmple") as run:
        _, errors = run.communicate(timeout=30)

    assert run.returncode == 1
    assert errors == "error: there is no set of jars called 'exmple'; the sets are example, other\n"


def test_jars_are_put_into_a_directory(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "its-own.jar").write_bytes(b"own")
    with command(tmp_path, repository, "example", "--into", tmp_path / "lib") as run:
        run.communicate(timeout=30)

    assert {path.name: path.read_bytes() for path in (tmp_path / "lib").glob("*.jar")} == {
        "its-own.jar": b"own",
        "numbers-1.0.jar": CONTENT,
        "letters-2.0.jar": b"abc",
    }


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("*.jar")}


def test_a_jar_that_the_lock_no_longer_names_is_taken_away_and_others_stay(
    downloads: Downloads, tmp_path: Path
) -> None:
    files = downloads.fetch([JAR, OTHER])
    lib = tmp_path / "lib"
    jars.place(files, ["example"], lib, [JAR, OTHER])
    (lib / "its-own.jar").write_bytes(b"own")

    jars.place({OTHER.file_name: files[OTHER.file_name]}, ["example"], lib, [OTHER])

    assert names(lib) == {"its-own.jar", "letters-2.0.jar"}


def test_a_second_set_in_one_directory_leaves_the_first_alone(downloads: Downloads, tmp_path: Path) -> None:
    files = downloads.fetch([JAR, OTHER])
    lib = tmp_path / "lib"
    jars.place(files, ["example"], lib, [JAR, OTHER])
    jars.place({OTHER.file_name: files[OTHER.file_name]}, ["other"], lib, [JAR, OTHER])

    assert names(lib) == {"numbers-1.0.jar", "letters-2.0.jar"}

    # Both sets held the jar: it goes when the last of them no longer does.
    without = dataclasses.replace(OTHER, sets=("other",))
    jars.place({JAR.file_name: files[JAR.file_name]}, ["example"], lib, [JAR, without])
    assert names(lib) == {"numbers-1.0.jar", "letters-2.0.jar"}
    jars.place({}, ["other"], lib, [JAR])
    assert names(lib) == {"numbers-1.0.jar"}


def test_a_run_that_stopped_while_it_placed_jars_leaves_none_for_ever(
    downloads: Downloads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = downloads.fetch([JAR, OTHER])
    lib = tmp_path / "lib"
    link = jars._link_or_copy

    def stop_at_the_second(source: Path, target: Path) -> None:
        if target.name == OTHER.file_name:
            raise KeyboardInterrupt
        link(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(jars, "_link_or_copy", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            jars.place(files, ["example"], lib, [JAR, OTHER])
    assert names(lib) == {"numbers-1.0.jar"}

    jars.place({OTHER.file_name: files[OTHER.file_name]}, ["example"], lib, [OTHER])

    assert names(lib) == {"letters-2.0.jar"}


def test_where_no_hard_link_is_possible_the_jar_is_copied(
    downloads: Downloads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    jars.place(downloads.fetch([OTHER]), ["other"], tmp_path / "lib", [OTHER])

    assert (tmp_path / "lib" / "letters-2.0.jar").read_bytes() == b"abc"


def test_another_file_of_the_same_name_is_replaced(downloads: Downloads, tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    lib.mkdir()
    (lib / "letters-2.0.jar").write_bytes(b"xyz")

    jars.place(downloads.fetch([OTHER]), ["other"], lib, [OTHER])

    assert (lib / "letters-2.0.jar").read_bytes() == b"abc"

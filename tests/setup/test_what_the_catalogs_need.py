"""What `setup/catalog_programs.py` makes in the cache, without any network."""

import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import catalog_programs
import debian
import jars
import pinned_go


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and downloads that are made here."""
    made = tmp_path / "made"
    (made / "dist" / "lib").mkdir(parents=True)
    (made / "dist" / "lib" / "metastore.jar").write_text("a jar")
    archive = made / "archive"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(made / "dist", "apache-hive-metastore")
    (made / "jar").write_text("another jar")

    def fetch(_: jars.Downloads, chosen: Sequence[jars.Jar]) -> dict[str, Path]:
        return {jar.file_name: archive if jar.file_name.endswith(".tar.gz") else made / "jar" for jar in chosen}

    monkeypatch.setattr(jars.Downloads, "fetch", fetch)
    monkeypatch.setattr(pinned_go, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.usefixtures("cache")
def test_the_distribution_of_the_metastore_is_unpacked_with_what_it_lacks() -> None:
    folder = catalog_programs.hive_metastore()
    names = {path.name for path in (folder / "lib").iterdir()}
    assert {"metastore.jar", "postgresql-42.7.14.jar"} <= names
    assert not [name for name in names if name.endswith(".gz") or "hadoop" in name]
    assert [path.name for path in (folder / "hadoop").iterdir()] == ["flink-s3-fs-hadoop-2.1.1.jar"]


def test_a_folder_of_jars_is_made_once_and_again_when_one_is_missing(cache: Path) -> None:
    folder = catalog_programs.jars_of("some", ("postgres", "flink-hive"))
    before = (folder / "seal").stat().st_mtime_ns
    assert catalog_programs.jars_of("some", ("postgres", "flink-hive")) == folder
    assert (folder / "seal").stat().st_mtime_ns == before
    (folder / "postgresql-42.7.14.jar").unlink()
    assert catalog_programs.jars_of("some", ("postgres", "flink-hive")) == folder
    assert (folder / "postgresql-42.7.14.jar").exists()
    assert [path.name for path in (cache / "some").iterdir() if path.is_dir()] == [folder.name]


def test_the_newest_postgresql_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_programs, "_DEBIAN_POSTGRES", tmp_path)
    for version in ("9.6", "15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "initdb").touch()
    assert catalog_programs.postgres() == tmp_path / "17" / "bin"


def test_a_postgresql_that_is_missing_is_installed_or_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[str]] = []

    def install(alternatives: Sequence[str], why: str) -> None:
        asked.append(alternatives)

    monkeypatch.setattr(catalog_programs, "_DEBIAN_POSTGRES", tmp_path)
    monkeypatch.setattr(catalog_programs.shutil, "which", lambda _: None)
    monkeypatch.setattr(debian, "install", install)
    with pytest.raises(debian.CannotInstall, match="its programs are not in"):
        catalog_programs.postgres()
    assert asked == [("postgresql",)]

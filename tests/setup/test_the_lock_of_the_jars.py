import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

import lock_jars
from jars import Jar, JarError, choose, read_lock
from lock_jars import disagreements, render

ENTRY = {
    "coordinates": '"org.example:numbers:1.0"',
    "sha256": f'"{"0" * 64}"',
    "size": "7",
    "sets": '["example"]',
}


def lock(folder: Path, *entries: dict[str, str], version: str = "1") -> Path:
    path = folder / "jars.lock"
    lines = [f"version = {version}"]
    for entry in entries:
        lines += ["[[jar]]", *(f"{key} = {value}" for key, value in entry.items())]
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("path", lock_jars.LOCKS, ids=lambda path: path.parent.name)
def test_a_lock_is_well_formed_and_as_the_script_writes_it(path: Path) -> None:
    assert render(read_lock(path)) == path.read_text()


@pytest.mark.parametrize("path", lock_jars.LOCKS, ids=lambda path: path.parent.name)
def test_a_lock_holds_what_is_declared(path: Path) -> None:
    assert disagreements(read_lock(path), lock_jars.LOCKS[path]) == []


def test_a_lock_of_benchmarks_that_lacks_something_is_noticed() -> None:
    few = [jar for jar in read_lock(lock_jars.BENCHMARK_LOCK_FILE) if ":iceberg-kafka-connect:" not in jar.coordinates]

    assert disagreements(few, lock_jars.BENCHMARK_SETS) == [
        "set kafka-connect: org.apache.iceberg:iceberg-kafka-connect:1.12.0 is not in the lock"
    ]


def without(name: str) -> list[Jar]:
    return [jar for jar in read_lock() if f":{name}:" not in jar.coordinates]


def test_a_declared_jar_that_is_not_locked_is_noticed() -> None:
    assert any(
        "set flink: org.apache.flink:flink-sql-connector-kafka" in line
        for line in disagreements(without("flink-sql-connector-kafka"))
    )


@pytest.mark.parametrize(
    ("jar", "complaint"),
    [
        (Jar("org.example:numbers:1.0", "", 1, ("spark",)), "set spark: org.example:numbers:1.0 is in the lock only"),
        (Jar("org.example:numbers:1.0", "", 1, ("extra",)), "set extra is in the lock only"),
        (Jar("org.jspecify:jspecify:1.0.0", "", 1, ("kafka",)), "set kafka: org.jspecify:jspecify:1.0.0 is not needed"),
    ],
    ids=["in a set", "of an unknown set", "known as not needed"],
)
def test_a_locked_jar_that_nobody_declared_is_noticed(jar: Jar, complaint: str) -> None:
    assert disagreements([*read_lock(), jar]) == [complaint]


def test_the_jars_fit_the_engines_that_the_environments_hold(root: Path) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    flink = next(
        match[1] for entry in extras["flink"] if (match := re.fullmatch(r"apache-flink==(\d+\.\d+)\.\d+", entry))
    )
    spark = next(match[1] for entry in extras["spark"] if (match := re.fullmatch(r"pyspark==(\d+\.\d+)\.\d+", entry)))
    names = [jar.coordinates for jar in read_lock()]

    assert [name for name in names if f":iceberg-flink-runtime-{flink}:" in name]
    assert [name for name in names if f":flink-s3-fs-hadoop:{flink}." in name]
    assert [name for name in names if f":iceberg-spark-runtime-{spark}_" in name]


@pytest.mark.parametrize("engine", ["flink", "spark"])
def test_the_bundle_for_s3_is_of_the_iceberg_that_the_engine_has(engine: str) -> None:
    runtime = next(jar for jar in choose(read_lock(), [engine]) if f":iceberg-{engine}-runtime-" in jar.coordinates)
    (bundle,) = choose(read_lock(), [f"{engine}-aws"])

    assert bundle.coordinates.rpartition(":")[2] == runtime.coordinates.rpartition(":")[2]


@pytest.mark.parametrize("path", lock_jars.LOCKS, ids=lambda path: path.parent.name)
def test_no_set_holds_a_library_in_two_versions(path: Path) -> None:
    for name in lock_jars.LOCKS[path]:
        libraries = [jar.coordinates.rpartition(":")[0] for jar in choose(read_lock(path), [name])]
        assert len(libraries) == len(set(libraries)), name


def test_set_up_and_images_get_nothing_that_only_benchmarks_need() -> None:
    everybodys = {jar.sha256 for jar in read_lock()}
    alone = [jar for jar in read_lock(lock_jars.BENCHMARK_LOCK_FILE) if jar.sha256 not in everybodys]

    assert any(":iceberg-kafka-connect:" in jar.coordinates for jar in alone)
    assert not set(lock_jars.SETS) & set(lock_jars.BENCHMARK_SETS)


@pytest.mark.parametrize(
    ("coordinates", "path"),
    [
        ("org.example:numbers:1.0", "org/example/numbers/1.0/numbers-1.0.jar"),
        ("org.example:numbers:1.0:tests", "org/example/numbers/1.0/numbers-1.0-tests.jar"),
        ("org.example:numbers:1.0:bin@tar.gz", "org/example/numbers/1.0/numbers-1.0-bin.tar.gz"),
        ("org.example:numbers:1.0@zip", "org/example/numbers/1.0/numbers-1.0.zip"),
    ],
)
def test_coordinates_say_where_a_file_is(coordinates: str, path: str) -> None:
    assert Jar(coordinates, "", 1, ("a",)).path == path


def test_the_client_of_a_hive_metastore_is_the_same_in_both_engines(root: Path) -> None:
    (brought,) = root.glob(".venv/spark/lib/python3.*/site-packages/pyspark/jars/hive-metastore-*.jar")
    assert brought.name in [jar.file_name for jar in choose(read_lock(), ["flink-hive"])]


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("coordinates", '"numbers"', "coordinates must be group:artifact:version, but they are 'numbers'"),
        ("coordinates", '"org:../../etc:1"', "coordinates must be group:artifact:version"),
        ("coordinates", '"org:one:1:a/../b"', "coordinates must be group:artifact:version"),
        ("coordinates", '"org:..:1"', "coordinates must be group:artifact:version"),
        ("coordinates", "3", "coordinates must be group:artifact:version, but they are 3"),
        ("sha256", '"ABC"', "sha256 must be 64 lower-case hexadecimal digits, but it is 'ABC'"),
        ("size", '"7"', "size must be a number of bytes, but it is '7'"),
        ("size", "0", "size must be a number of bytes, but it is 0"),
        ("sets", '"flink"', "sets must be names such as"),
        ("sets", "[]", "sets must be names such as"),
        ("sets", '["../x"]', "sets must be names such as"),
    ],
)
def test_a_lock_that_is_not_well_formed_is_refused(tmp_path: Path, key: str, value: str, complaint: str) -> None:
    with pytest.raises(JarError, match=re.escape(f"jars.lock: jar 1: {complaint}")):
        read_lock(lock(tmp_path, ENTRY | {key: value}))


@pytest.mark.parametrize("key", ENTRY)
def test_a_lock_that_lacks_something_is_refused(tmp_path: Path, key: str) -> None:
    entry = {name: value for name, value in ENTRY.items() if name != key}
    with pytest.raises(JarError, match=f"jar 1: {key} must be .* None"):
        read_lock(lock(tmp_path, entry))


def test_a_lock_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JarError, match="version must be 1, but it is 2"):
        read_lock(lock(tmp_path, ENTRY, version="2"))


def test_a_jar_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JarError, match=r"numbers-1\.0\.jar stands there more than once"):
        read_lock(lock(tmp_path, ENTRY, ENTRY))


def test_a_lock_that_is_no_toml_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JarError, match=r"there is no lock file .*jars\.lock"):
        read_lock(tmp_path / "jars.lock")
    (tmp_path / "jars.lock").write_text("[[jar")
    with pytest.raises(JarError, match=r"jars\.lock is not TOML"):
        read_lock(tmp_path / "jars.lock")


def test_a_jar_of_two_chosen_sets_is_chosen_once() -> None:
    one = Jar("org.example:numbers:1.0", "", 1, ("a", "b"))
    two = dataclasses.replace(one, coordinates="org.example:letters:1.0", sets=("b",))
    three = dataclasses.replace(one, coordinates="org.example:words:1.0", sets=("c",))

    assert choose([one, two, three], ["b", "a"]) == (one, two)

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

import engines
import envelope_format
import java

GREETING = "package a; public class Greeting { public static void main(String[] x) { System.out.print(%s); } }\n"


@pytest.fixture(scope="module")
def java_home() -> Path:
    return java.find_or_install(os.environ).home


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    sources = tmp_path / "main"
    (sources / "java" / "a").mkdir(parents=True)
    (sources / "resources" / "META-INF" / "services").mkdir(parents=True)
    (sources / "java" / "a" / "Greeting.java").write_text(GREETING % '"hello"')
    (sources / "resources" / "META-INF" / "services" / "a.Service").write_text("a.Greeting\n")
    return sources


def test_the_jar_runs_and_holds_the_resources(sources: Path, tmp_path: Path, java_home: Path) -> None:
    jar = tmp_path / "out" / "envelope.jar"
    envelope_format.build(jar, [], java_home, sources)

    answer = subprocess.run([java_home / "bin" / "java", "-cp", jar, "a.Greeting"], capture_output=True, check=True)
    assert answer.stdout == b"hello"
    with zipfile.ZipFile(jar) as content:
        assert content.read("META-INF/services/a.Service") == b"a.Greeting\n"
        assert content.namelist()[0] == "META-INF/MANIFEST.MF"


def test_the_same_sources_give_the_same_bytes(sources: Path, tmp_path: Path, java_home: Path) -> None:
    first, second = tmp_path / "1.jar", tmp_path / "2.jar"
    envelope_format.build(first, [], java_home, sources)
    os.utime(sources / "java" / "a" / "Greeting.java", (1, 1))
    envelope_format.build(second, [], java_home, sources)

    assert first.read_bytes() == second.read_bytes()


def test_sources_that_do_not_compile_are_refused_and_the_old_jar_stays(
    sources: Path, tmp_path: Path, java_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    jar = tmp_path / "envelope.jar"
    jar.write_bytes(b"old")
    (sources / "java" / "a" / "Greeting.java").write_text(GREETING % "nothing")

    with pytest.raises(envelope_format.DoesNotCompile, match="do not compile"):
        envelope_format.build(jar, [], java_home, sources)
    assert jar.read_bytes() == b"old"
    assert "nothing cannot be resolved" in capfd.readouterr().err


def test_a_fingerprint_changes_with_any_source_or_resource(sources: Path) -> None:
    seen = {envelope_format.fingerprint(sources)}
    (sources / "java" / "a" / "Greeting.java").write_text(GREETING % '"hallo"')
    seen.add(envelope_format.fingerprint(sources))
    (sources / "resources" / "META-INF" / "services" / "a.Service").rename(sources / "resources" / "a.Service")
    seen.add(envelope_format.fingerprint(sources))

    assert len(seen) == 3
    assert envelope_format.fingerprint(sources) in seen


def test_flink_finds_the_format_that_was_built_from_the_sources_here(tmp_path: Path, java_home: Path) -> None:
    """What `make setup` has put into the FLINK_HOME is this checkout's format, and it names its factory."""
    rebuilt = tmp_path / "envelope.jar"
    jars = [path for path in (engines.FLINK_HOME / "lib").glob("*.jar") if path.name != engines.ENVELOPE_FORMAT.name]
    envelope_format.build(rebuilt, jars, java_home)

    installed = engines.FLINK_HOME / "lib" / engines.ENVELOPE_FORMAT.name
    assert installed.read_bytes() == rebuilt.read_bytes()
    with zipfile.ZipFile(installed) as content:
        services = content.read("META-INF/services/org.apache.flink.table.factories.Factory").decode().split()
        assert services
        assert {f"{name.replace('.', '/')}.class" for name in services} <= set(content.namelist())

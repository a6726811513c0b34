"""Make the locks of the jars anew: ``python setup/lock_jars.py``. With ``--check``: do they fit what stands here?

``jobs/jars.lock`` is for everybody; ``benchmarks/jars.lock`` has what only benchmarks need.

To raise a version, change it here, run this script with Maven (``mvn``) on the PATH, and commit the lock. Nothing else
in the project needs Maven. All jars are downloaded into an empty directory, about 500 MB, and Maven refuses what does
not match the checksum that Maven Central publishes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from jars import BENCHMARK_LOCK_FILE, LOCK_FILE, LOCK_VERSION, Jar, JarError, read_lock, sha256_of

SETS: Final[Mapping[str, tuple[str, ...]]] = {
    # Into the `lib` of Flink. Hadoop's client is what Iceberg's Flink runtime needs even without HDFS.
    "flink": (
        "org.apache.flink:flink-sql-connector-kafka:4.0.1-2.0",
        "org.apache.iceberg:iceberg-flink-runtime-2.1:1.11.0",
        "org.apache.hadoop:hadoop-client-api:3.4.2",
        "org.apache.hadoop:hadoop-client-runtime:3.4.2",
        "org.xerial:sqlite-jdbc:3.50.3.0",
    ),
    # For Iceberg on S3 in the images: the bundle of the Iceberg version that the engine has.
    "flink-aws": ("org.apache.iceberg:iceberg-aws-bundle:1.11.0",),
    # Into a folder of its own under the `plugins` of Flink: checkpoints and savepoints on S3. PyFlink does not bring
    # it. 2.1.1 is the newest 2.1 on Maven Central; a plugin uses Flink's public file system interface only.
    "flink-s3": ("org.apache.flink:flink-s3-fs-hadoop:2.1.1",),
    "spark": (
        "org.apache.iceberg:iceberg-spark-runtime-4.1_2.13:1.12.0",
        "org.xerial:sqlite-jdbc:3.50.3.0",
    ),
    "spark-aws": ("org.apache.iceberg:iceberg-aws-bundle:1.12.0",),
    # A broker for one machine, and all that it needs.
    "kafka": (
        "org.apache.kafka:kafka_2.13:4.1.1",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",
    ),
    # The operator of Flink, for the end-to-end tests. It calls the module for standalone clusters, but brings it to
    # nobody.
    "flink-operator": (
        "org.apache.flink:flink-kubernetes-operator:1.7.0",
        "org.apache.flink:flink-kubernetes-standalone:1.7.0",
    ),
    # It was compiled with this Guava, which has its version in its packages, so that the newer one does not stand in.
    "flink-operator-guava": ("org.apache.flink:flink-shaded-guava:30.1.1-jre-16.1",),
    # Into the `lib` of either engine, for an Iceberg JDBC catalog on PostgreSQL.
    "postgres": ("org.postgresql:postgresql:42.7.14",),
    # Into the `lib` of Flink, for an Iceberg catalog in a Hive Metastore: what Iceberg's own client calls, no more. It
    # is the client that PySpark brings. It can't log in with Kerberos: that takes further shims.
    "flink-hive": (
        "org.apache.hive:hive-metastore:2.3.10",
        "org.apache.hive:hive-common:2.3.10",
        "org.apache.hive:hive-serde:2.3.10",
        "org.apache.hive.shims:hive-shims-common:2.3.10",
        "org.apache.thrift:libthrift:0.16.0",
        "org.apache.thrift:libfb303:0.9.3",
        "com.google.guava:guava:14.0.1",
        "org.slf4j:jcl-over-slf4j:1.7.36",
    ),
    # A Hive Metastore, for the tests of catalogs: its own distribution, and what that expects of a Hadoop around it.
    # Flink's plugin holds a whole one that knows S3, in a tenth of the size of Hadoop's own jars for that. 3.1.3 is the
    # newest that pyiceberg can talk to: 4.0.1 answers it with "Invalid method name: 'get_table'".
    "hive-metastore": (
        "org.apache.hive:hive-standalone-metastore:3.1.3:bin@tar.gz",
        "org.apache.flink:flink-s3-fs-hadoop:2.1.1",
        "commons-cli:commons-cli:1.9.0",
        "org.slf4j:slf4j-api:1.7.36",
    ),
    # A server of Iceberg's REST protocol, for the tests: Iceberg's own adapter of any catalog to that protocol, which
    # is among the tests of iceberg-core, and a web server. Our own part of it is in tests/catalogs/rest-catalog.
    "rest-catalog": (
        "org.apache.iceberg:iceberg-core:1.11.0",
        "org.apache.iceberg:iceberg-core:1.11.0:tests",
        "org.apache.iceberg:iceberg-aws:1.11.0",
        "org.eclipse.jetty.ee10:jetty-ee10-servlet:12.1.5",
        "org.slf4j:slf4j-simple:2.0.17",
    ),
    # The Eclipse compiler is a single jar that runs on a JRE, so that nobody needs a JDK.
    "build": ("org.eclipse.jdt:ecj:3.46.100",),
}
"""The sets and what belongs to them, by ``group:artifact:version``."""

BENCHMARK_SETS: Final[Mapping[str, tuple[str, ...]]] = {
    # A worker of Kafka Connect with Iceberg's sink, which bronze is compared with. The sink's own dependencies leave
    # out what it needs to write Parquet to a file system.
    "kafka-connect": (
        "org.apache.iceberg:iceberg-kafka-connect:1.12.0",
        "org.apache.iceberg:iceberg-parquet:1.12.0",
        "org.apache.kafka:connect-runtime:4.1.1",
        "org.apache.kafka:connect-json:4.1.1",
        "org.apache.hadoop:hadoop-client-api:3.4.2",
        "org.apache.hadoop:hadoop-client-runtime:3.4.2",
        "org.apache.logging.log4j:log4j-slf4j2-impl:2.24.3",
        "org.xerial:sqlite-jdbc:3.50.3.0",
    ),
    # What Spark needs to read Kafka, beside its own jars. 4.1.1 is the newest 4.1 of which Maven Central has all.
    "spark-kafka": (
        "org.apache.spark:spark-sql-kafka-0-10_2.13:4.1.1",
        "org.apache.spark:spark-token-provider-kafka-0-10_2.13:4.1.1",
        "org.apache.kafka:kafka-clients:3.9.1",
        "org.apache.commons:commons-pool2:2.12.1",
    ),
}
"""The same for the benchmarks alone."""

LOCKS: Final[Mapping[Path, Mapping[str, tuple[str, ...]]]] = {LOCK_FILE: SETS, BENCHMARK_LOCK_FILE: BENCHMARK_SETS}
"""The lock files, and the sets of each."""

WITH_DEPENDENCIES: Final = ("kafka", "flink-operator", "rest-catalog", "kafka-connect")
"""The sets that also get what their jars need at runtime. The others are made of jars that hold all they need."""

RAISED: Final[Mapping[str, tuple[str, ...]]] = {
    # 1.7.0 is the newest on Maven Central. With its own Flink 1.17 it can't read the answers of Flink 2; 1.20.1 is the
    # newest 1.20 of flink-kubernetes to be had there.
    "flink-operator": tuple(
        f"org.apache.flink:flink-{name}:1.20.1"
        for name in (
            "annotations",
            "clients",
            "core",
            "core-api",
            "file-sink-common",
            "hadoop-fs",
            "java",
            "kubernetes",
            "metrics-core",
            "optimizer",
            "queryable-state-client-java",
            "rpc-akka-loader",
            "rpc-core",
            "runtime",
            "runtime-web",
            "streaming-java",
        )
    ),
    # Kafka asks for an older Jackson than Iceberg's sink was built with, and a mixture of both does not start.
    "kafka-connect": (
        "com.fasterxml.jackson.core:jackson-annotations:2.22",
        "com.fasterxml.jackson.core:jackson-core:2.22.2",
        "com.fasterxml.jackson.core:jackson-databind:2.22.2",
        "com.fasterxml.jackson.datatype:jackson-datatype-jdk8:2.22.2",
        "com.fasterxml.jackson.jakarta.rs:jackson-jakarta-rs-base:2.22.2",
        "com.fasterxml.jackson.jakarta.rs:jackson-jakarta-rs-json-provider:2.22.2",
        "com.fasterxml.jackson.module:jackson-module-blackbird:2.22.2",
        "com.fasterxml.jackson.module:jackson-module-jakarta-xmlbind-annotations:2.22.2",
    ),
}
"""Versions of dependencies, by set, that differ from what its jars ask for."""

NOT_NEEDED: Final = (
    "org.scala-lang:scala-reflect",  # for macros, when Kafka is compiled
    "org.jspecify:jspecify",  # annotations
    "com.fasterxml.jackson.dataformat:jackson-dataformat-csv",  # for a command line tool
    # Kafka calls one class of commons-validator; the others are for its XML configuration.
    "commons-beanutils:commons-beanutils",
    "commons-collections:commons-collections",
    "commons-digester:commons-digester",
    "commons-logging:commons-logging",
    # A sink that writes Parquet calls nothing of ORC.
    "org.apache.orc:orc-core",
    "org.apache.orc:orc-shims",
)
"""Dependencies (``group:artifact``) that nothing here ever loads."""


def disagreements(jars: Sequence[Jar], sets: Mapping[str, Sequence[str]] = SETS) -> list[str]:
    """Say where a lock and the declarations of its sets differ, as far as that can be told without Maven."""
    found = []
    for name, declared in sets.items():
        locked = {jar.coordinates for jar in jars if name in jar.sets}
        found += [f"set {name}: {jar} is not in the lock" for jar in declared if jar not in locked]
        if name not in WITH_DEPENDENCIES:
            found += [f"set {name}: {jar} is in the lock only" for jar in sorted(locked - set(declared))]
        versions = {_without_version(jar): jar for jar in locked}
        found += [
            f"set {name}: {versions[_without_version(jar)]} should be {jar}"
            for jar in RAISED.get(name, ())
            if versions.get(_without_version(jar), jar) != jar
        ]
        unexpected = sorted(locked - set(declared))
        found += [f"set {name}: {jar} is not needed" for jar in unexpected if _without_version(jar) in NOT_NEEDED]
    known = {name for jar in jars for name in jar.sets}
    return found + [f"set {name} is in the lock only" for name in sorted(known - set(sets))]


def _without_version(coordinates: str) -> str:
    return ":".join(coordinates.split(":")[:2])


def resolve(sets: Mapping[str, tuple[str, ...]]) -> tuple[Jar, ...]:
    """Ask Maven for all jars of the sets and return them with size and checksum."""
    with tempfile.TemporaryDirectory(prefix="lock-jars-") as name:
        scratch = Path(name)
        members = {
            name: _closure(name, jars, scratch) if name in WITH_DEPENDENCIES else jars for name, jars in sets.items()
        }
        every = sorted({jar for jars in members.values() for jar in jars})
        files = _copy(every, scratch)
        return tuple(
            Jar(
                coordinates=jar,
                sha256=sha256_of(files[jar]),
                size=files[jar].stat().st_size,
                sets=tuple(sorted(name for name, jars in members.items() if jar in jars)),
            )
            for jar in every
        )


def _closure(name: str, declared: Sequence[str], scratch: Path) -> tuple[str, ...]:
    """The jars of a set with their runtime dependencies, less those that are not needed."""
    dependencies = "".join(f"<dependency>{_xml(jar)}</dependency>" for jar in declared)
    listing = scratch / f"{name}.txt"
    raised = "".join(f"<dependency>{_xml(jar)}</dependency>" for jar in RAISED.get(name, ()))
    pom = (
        f"<dependencyManagement><dependencies>{raised}</dependencies></dependencyManagement>"
        f"<dependencies>{dependencies}</dependencies>"
    )
    _maven(pom, "list", scratch, f"-DoutputFile={listing}")
    found = []
    for line in listing.read_text(encoding="utf-8").splitlines():
        # "   org.lz4:lz4-java:jar:1.8.0:runtime -- module org.lz4.java", or "...:jar:tests:1.8.0:runtime"
        parts = line.strip().split(" ")[0].split(":")
        if len(parts) in (5, 6) and parts[2] == "jar" and parts[-1] in ("compile", "runtime"):
            found.append(":".join((*parts[:2], parts[-2], *parts[3:-2])))
        elif len(parts) > 3 and ":".join(parts[:2]) not in NOT_NEEDED:
            raise JarError(f"set {name}: do not know what to do with {line.strip()!r}")
    return tuple(jar for jar in found if _without_version(jar) not in NOT_NEEDED)


def _copy(jars: Iterable[str], scratch: Path) -> dict[str, Path]:
    """Download jars. Return the file of each."""
    items = "".join(f"<artifactItem>{_xml(jar)}</artifactItem>" for jar in jars)
    output = scratch / "jars"
    plugin = (
        "<build><plugins><plugin><artifactId>maven-dependency-plugin</artifactId><configuration>"
        f"<artifactItems>{items}</artifactItems><outputDirectory>{escape(str(output))}</outputDirectory>"
        "</configuration></plugin></plugins></build>"
    )
    _maven(plugin, "copy", scratch)
    return {jar: output / Jar(jar, "", 0, ()).file_name for jar in jars}


def _xml(coordinates: str) -> str:
    group, artifact, version, classifier, extension = (escape(part) for part in Jar(coordinates, "", 0, ()).parts)
    return (
        f"<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
        f"<classifier>{classifier}</classifier><type>{extension}</type>"
    )


def _maven(content: str, goal: str, scratch: Path, *options: str) -> None:
    pom = scratch / "pom.xml"
    pom.write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        f"<groupId>lock</groupId><artifactId>jars</artifactId><version>1</version>{content}</project>",
        encoding="utf-8",
    )
    command = ["mvn", "-B", "-q", "-C", "-f", str(pom), f"-Dmaven.repo.local={scratch / 'repository'}"]
    subprocess.run([*command, f"dependency:{goal}", *options], check=True)


def render(jars: Iterable[Jar]) -> str:
    """Return the text of the lock file."""
    entries = (
        f'[[jar]]\ncoordinates = "{jar.coordinates}"\nsha256 = "{jar.sha256}"\nsize = {jar.size}\n'
        f"sets = {json.dumps(jar.sets)}\n"
        for jar in jars
    )
    head = f"# Made by setup/lock_jars.py: change the versions there and run it.\nversion = {LOCK_VERSION}\n"
    return "\n".join([head, *entries])


def main(arguments: Sequence[str] | None = None) -> int:
    """Make or check the lock file. Return the exit code."""
    parser = argparse.ArgumentParser(prog="lock_jars.py", description="Make the lock files of the jars, with Maven.")
    parser.add_argument("--check", action="store_true", help="say whether the locks fit the declarations; no Maven")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            differences = [line for lock, sets in LOCKS.items() for line in disagreements(read_lock(lock), sets)]
            print(*differences, sep="\n", end="\n" if differences else "", file=sys.stderr)
            if differences:
                print("error: a lock of jars does not fit; run: python setup/lock_jars.py", file=sys.stderr)
            return 1 if differences else 0
        for lock, sets in LOCKS.items():
            lock.write_text(render(resolve(sets)), encoding="utf-8")
            print(f"{lock}: {len(read_lock(lock))} jars")
    except (JarError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except FileNotFoundError:
        print("error: this needs Maven: on Debian and Ubuntu: apt-get install maven", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

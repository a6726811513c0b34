"""The servers that catalogs and object stores are: real ones, on ports and in folders of their own.

Each can be stopped and started again on the same port with what it had.
"""

import hashlib
import hmac
import os
import pwd
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Protocol

from pyarrow.fs import FileSystem, LocalFileSystem, S3FileSystem
from typing_extensions import override

from lakehouse_operator.local import ports
from lakehouse_operator.local.processes import Process, Processes

HOST = "127.0.0.1"
_SECONDS = 90.0
_QUICK_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")


class Server(Protocol):
    """What can be restarted."""

    def start(self) -> None:
        """Start it, and wait until it serves."""

    def stop(self) -> None:
        """Stop it; what it has stays."""


class Files(Protocol):
    """Where files lie, by their paths in `filesystem`."""

    @property
    def filesystem(self) -> FileSystem: ...

    def age(self, path: str, moment: datetime) -> None:
        """Make a file one that was last changed at a moment."""


class Disk:
    """The disk of this machine."""

    filesystem = LocalFileSystem()

    def age(self, path: str, moment: datetime) -> None:
        os.utime(path, (moment.timestamp(), moment.timestamp()))


@dataclass(frozen=True)
class Store:
    """An S3 store with one bucket."""

    endpoint: str
    bucket: str
    key: str
    secret: str = field(repr=False)

    @cached_property
    def filesystem(self) -> FileSystem:
        return S3FileSystem(
            access_key=self.key, secret_key=self.secret, endpoint_override=self.endpoint, region="us-east-1",
            allow_bucket_creation=True, force_virtual_addressing=False,
        )  # fmt: skip

    def age(self, path: str, moment: datetime) -> None:
        """S3 itself knows no way: each store has its own."""
        raise NotImplementedError


@dataclass(frozen=True)
class Versitygw(Store):
    """It takes an object's age from the file."""

    objects: Path = Path()

    @override
    def age(self, path: str, moment: datetime) -> None:
        Disk().age(str(self.objects / path), moment)


@dataclass(frozen=True)
class Minio(Store):
    """It takes an object's age from who writes it, as one MinIO from another."""

    @override
    def age(self, path: str, moment: datetime) -> None:
        with self.filesystem.open_input_stream(path) as stream:
            content = stream.read()
        self._put(path, content, {"x-minio-source-mtime": moment.isoformat()})

    def _put(self, path: str, content: bytes, headers: Mapping[str, str]) -> None:
        """Write an object with headers that S3 does not know, signed by AWS Signature Version 4."""
        place, digest = urllib.parse.quote(f"/{path}"), hashlib.sha256(content).hexdigest()
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")  # noqa: TID251 - as a client does
        signed = {
            "host": urllib.parse.urlsplit(self.endpoint).netloc,
            "x-amz-content-sha256": digest,
            "x-amz-date": now,
        }
        names, lines = ";".join(signed), "".join(f"{name}:{value}\n" for name, value in signed.items())
        canonical = hashlib.sha256(f"PUT\n{place}\n\n{lines}\n{names}\n{digest}".encode()).hexdigest()
        scope = f"{now[:8]}/us-east-1/s3/aws4_request"
        key = f"AWS4{self.secret}".encode()
        for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{canonical}"):
            key = hmac.digest(key, part.encode(), "sha256")
        credential = f"AWS4-HMAC-SHA256 Credential={self.key}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
        request = urllib.request.Request(
            self.endpoint + place, content, {**signed, **headers, "authorization": credential}, method="PUT"
        )
        with urllib.request.urlopen(request, timeout=30):
            pass


@dataclass
class Postgres:
    """A cluster of PostgreSQL in a folder of its own, for one user who logs in with a password.

    PostgreSQL refuses to run as root, so there it runs as the user of Debian's package, or as nobody.
    """

    processes: Processes
    programs: Path
    user: str
    password: str
    port: int = field(default_factory=ports.choose)
    home: Path = field(init=False)
    _process: Process | None = None

    def __post_init__(self) -> None:
        # Not below pytest's own folder, which nobody but its owner can enter. A socket's path must be short, too.
        self.home = Path(tempfile.mkdtemp(prefix="lakehouse-postgres-"))
        password = self.home / "password"
        password.write_text(self.password)
        if os.geteuid() == 0:
            for path in (self.home, password):
                shutil.chown(path, _unprivileged())
        self._run("initdb", "--no-sync", f"--username={self.user}", "--encoding=UTF8", "--locale=C.UTF-8",
                  "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}",
                  str(self.home / "data"))  # fmt: skip

    def start(self) -> None:
        self._process = self.processes.start(
            "postgres",
            [*_as_unprivileged(), self.programs / "postgres", "-D", self.home / "data", "-p", str(self.port),
             "-c", "fsync=off", "-c", f"listen_addresses={HOST}", "-c", f"unix_socket_directories={self.home}"],
            directory=self.home,
        )  # fmt: skip
        self._process.until(self._is_ready, what="ready", seconds=_SECONDS)

    def stop(self) -> None:
        assert self._process is not None
        # SIGTERM waits for its clients to go; SIGINT ends their sessions, as a failover does.
        self._run("pg_ctl", "stop", "--pgdata", str(self.home / "data"), "--mode", "fast")
        self._process.stop()

    def create(self, database: str, *, script: Path | None = None) -> None:
        """Make a database, and run a script in it."""
        self._psql("postgres", "-c", f'CREATE DATABASE "{database}"')
        if script is not None:
            self._psql(database, "-q", "-f", str(script))

    def address(self, database: str) -> str:
        """The database as JDBC spells it."""
        return f"jdbc:postgresql://{HOST}:{self.port}/{database}"

    def remove(self) -> None:
        """Take the folder away."""
        shutil.rmtree(self.home, ignore_errors=True)

    def _is_ready(self) -> bool:
        command = [self.programs / "pg_isready", "-q", "-h", HOST, "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def _psql(self, database: str, *arguments: str) -> None:
        # The script is read here: what runs it may not be allowed to open it.
        options = ["-v", "ON_ERROR_STOP=1", "-h", str(self.home), "-p", str(self.port), "-U", self.user, "-d", database]
        command = [str(self.programs / "psql"), *options, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*_as_unprivileged(), str(self.programs / program), *arguments]
        done = subprocess.run(command, cwd=self.home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def _unprivileged() -> str:
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _as_unprivileged() -> list[str]:
    if os.geteuid() != 0:
        return []
    entry = pwd.getpwnam(_unprivileged())
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]


@dataclass
class Java:
    """A server that is a JVM with one port."""

    processes: Processes
    name: str
    java: Path
    class_path: str
    main: str
    arguments: tuple[str, ...]
    port: int
    environment: Mapping[str, str]
    options: tuple[str, ...] = ()
    _process: Process | None = None

    def start(self) -> None:
        command = [self.java, "-Xmx384m", *_QUICK_JVM, *self.options, "-cp", self.class_path, self.main]
        self._process = self.processes.start(self.name, [*command, *self.arguments], environment=self.environment)
        self._process.until(lambda: ports.listening(HOST, self.port), what="listening", seconds=_SECONDS)

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()


def rest_catalog(
    processes: Processes,
    java: Path,
    folder: Path,
    *,
    credential: str,
    catalog: Mapping[str, str],
    keys: Mapping[str, str],
) -> Java:
    """The server of the REST protocol; `catalog` are the properties of the catalog behind it."""
    port = ports.choose()
    variables = {f"CATALOG_{name.replace('-', '__').replace('.', '_').upper()}": catalog[name] for name in catalog}
    environment = {"REST_PORT": str(port), "REST_CREDENTIAL": credential, **variables, **keys}
    main = "dev.lakehouse.testbed.RestCatalog"
    return Java(processes, "rest-catalog", java, f"{folder}/*", main, (), port, environment)


def hive_metastore(
    processes: Processes,
    java: Path,
    distribution: Path,
    directory: Path,
    *,
    postgres: Postgres,
    database: str,
    store: Store,
) -> Java:
    """A Hive Metastore over a database that has its schema."""
    port = ports.choose()
    directory.mkdir()
    settings = {
        "metastore.warehouse.dir": (directory / "unused").as_uri(),
        "javax.jdo.option.ConnectionDriverName": "org.postgresql.Driver",
        "javax.jdo.option.ConnectionURL": postgres.address(database),
        "javax.jdo.option.ConnectionUserName": postgres.user,
        "javax.jdo.option.ConnectionPassword": postgres.password,
        # Its defaults name classes that are in a whole Hive only.
        "metastore.expression.proxy": "org.apache.hadoop.hive.metastore.DefaultPartitionExpressionProxy",
        "metastore.task.threads.always": "org.apache.hadoop.hive.metastore.events.EventCleanerTask",
        # It looks for the folders of tables in the store.
        "fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "fs.s3a.endpoint": store.endpoint,
        "fs.s3a.path.style.access": "true",
    }
    properties = "".join(
        f"<property><name>{name}</name><value>{value}</value></property>" for name, value in settings.items()
    )
    (directory / "metastore-site.xml").write_text(f"<configuration>{properties}</configuration>")
    logging = f"-Dlog4j.configurationFile={distribution / 'conf' / 'metastore-log4j2.properties'}"
    return Java(
        processes, "hive-metastore", java, f"{directory}:{distribution}/lib/*:{distribution}/hadoop/*",
        "org.apache.hadoop.hive.metastore.HiveMetaStore", ("-p", str(port)), port, {}, (logging,),
    )  # fmt: skip


def minio(processes: Processes, program: Path, directory: Path, *, bucket: str, key: str, secret: str) -> Store:
    """Start MinIO. A folder is a bucket to it once it has been made through its own interface."""
    port, console = _two_ports()
    command = [program, "server", "--quiet", "--address", f"{HOST}:{port}", "--console-address", f"{HOST}:{console}"]
    environment = {"MINIO_ROOT_USER": key, "MINIO_ROOT_PASSWORD": secret, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
    process = processes.start("minio", [*command, directory], environment=environment)
    process.until(lambda: _answers(f"http://{HOST}:{port}/minio/health/ready"), what="ready", seconds=_SECONDS)
    return Minio(f"http://{HOST}:{port}", bucket, key, secret)


def versitygw(processes: Processes, program: Path, directory: Path, *, bucket: str, key: str, secret: str) -> Store:
    """Start versitygw, as the image of the end-to-end tests does."""
    port = ports.choose()
    for folder in ("objects", "attributes"):
        (directory / folder).mkdir(parents=True)
    process = processes.start(
        "versitygw",
        [program, "--port", f"{HOST}:{port}", "--quiet", "posix", "--sidecar", directory / "attributes",
         directory / "objects"],
        environment={"ROOT_ACCESS_KEY": key, "ROOT_SECRET_KEY": secret},
        directory=directory,
    )  # fmt: skip
    process.until(lambda: ports.listening(HOST, port), what="listening", seconds=_SECONDS)
    return Versitygw(f"http://{HOST}:{port}", bucket, key, secret, directory / "objects")


def _two_ports() -> tuple[int, int]:
    first = ports.choose()
    return first, ports.choose(taken=frozenset({first}))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False

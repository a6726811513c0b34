"""The catalogs that are tried, each with a store: every catalog once, and every store."""

from collections.abc import Iterator

import pytest

from catalogs import machine, servers
from catalogs.lakehouse import Kind
from catalogs.life import Life, live
from catalogs.machine import Machine

CREDENTIAL = "lakehouse:the-secret-of-the-rest-client"


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine.running(tmp_path_factory.mktemp("catalogs")) as running:
        yield running


def sqlite(everything: Machine) -> Kind:
    """The catalog of one machine, on its own disk."""
    file = everything.directory / "sqlite.db"
    return Kind("sqlite", {"type": "jdbc", "uri": f"jdbc:sqlite:{file}"})


def postgres(everything: Machine) -> Kind:
    """What the end-to-end tests run on."""
    everything.postgres.create("catalog")
    return Kind(
        "postgres",
        {"type": "jdbc", "uri": everything.postgres.address("catalog")},
        {"username": everything.postgres.user, "password": everything.postgres.password},
        everything.postgres,
        everything.versitygw,
    )


def rest(everything: Machine) -> Kind:
    """A server of the REST protocol, which wants to see a credential. The catalog has a name that a namespace has."""
    everything.postgres.create("behind-rest")
    server = servers.rest_catalog(
        everything.processes,
        everything.java,
        everything.programs["rest-catalog"],
        credential=CREDENTIAL,
        catalog={
            "catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
            "uri": everything.postgres.address("behind-rest"),
            "jdbc.user": everything.postgres.user,
            "jdbc.password": everything.postgres.password,
            "jdbc.schema-version": "V1",
            "warehouse": f"s3://{everything.minio.bucket}/rest/warehouse",
            "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            "s3.endpoint": everything.minio.endpoint,
            "s3.path-style-access": "true",
            "client.region": "us-east-1",
        },
        keys=machine.AWS_KEYS,
    )
    server.start()
    return Kind(
        "rest",
        {"type": "rest", "uri": f"http://{servers.HOST}:{server.port}", "name": "silver"},
        {"credential": CREDENTIAL},
        server,
        everything.minio,
    )


def hive(everything: Machine) -> Kind:
    """A Hive Metastore with MinIO and Snappy, as the platform had it from which this one comes."""
    distribution = everything.programs["hive"]
    schema = distribution / "scripts" / "metastore" / "upgrade" / "postgres" / "hive-schema-3.1.0.postgres.sql"
    everything.postgres.create("metastore", script=schema)
    server = servers.hive_metastore(
        everything.processes,
        everything.java,
        distribution,
        everything.directory / "hive-metastore",
        postgres=everything.postgres,
        database="metastore",
        store=everything.minio,
    )
    server.start()
    uri = f"thrift://{servers.HOST}:{server.port}"
    return Kind("hive", {"type": "hive", "uri": uri}, server=server, store=everything.minio, compression="snappy")


@pytest.fixture(scope="module", params=[sqlite, postgres, rest, hive], ids=lambda kind: kind.__name__)
def life(request: pytest.FixtureRequest, everything: Machine) -> Life:
    """What a pipeline has been through on a catalog; it happens once, whatever is asked about it."""
    return live(request.param(everything), everything)

"""Every host that a pipeline names is judged by the allow-list, however its address spells it."""

import pytest

from lakehouse_operator.observation.endpoints import endpoints, refused
from planning.examples import valid


@pytest.mark.parametrize(
    ("kind", "uri", "hosts"),
    [
        ("rest", "https://catalog.data.svc/iceberg", ("catalog.data.svc",)),
        ("rest", "http://catalog:8181", ("catalog:8181",)),
        ("jdbc", "jdbc:postgresql://db:5432/catalog?sslmode=require", ("db:5432",)),
        ("jdbc", "jdbc:postgresql://one:5432,two:5433/catalog", ("one:5432", "two:5433")),
        ("jdbc", "jdbc:sqlite:/data/catalog.db", ()),
        ("hive", "thrift://one:9083,thrift://two:9083", ("one:9083", "two:9083")),
    ],
)
def test_the_hosts_of_a_catalog(kind: str, uri: str, hosts: tuple[str, ...]) -> None:
    spec = valid("minimal", spec__catalog__type=kind, spec__catalog__uri=uri).spec
    assert endpoints(spec) == ("kafka:9092", *hosts)


def test_each_of_several_hosts_must_be_allowed() -> None:
    spec = valid(
        "minimal", spec__catalog__type="hive", spec__catalog__uri="thrift://ours:9083,thrift://theirs:9083"
    ).spec
    assert refused(endpoints(spec), ("kafka:*", "ours:*")) == ("theirs:9083",)

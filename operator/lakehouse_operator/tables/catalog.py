"""From the contract's catalog settings to a pyiceberg catalog."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pyiceberg.catalog import Catalog, load_catalog
from sqlalchemy import URL

from lakehouse_contract.settings import CatalogSettings

_IO_PROPERTIES = {  # Java's names, which the settings use, and pyiceberg's
    "client.region": "s3.region",
    "s3.path-style-access": "s3.force-virtual-addressing",
}

_LIBPQ = {  # parameters of PostgreSQL's driver for Java, and what its client in C calls them
    "sslmode": "sslmode",
    "sslrootcert": "sslrootcert",
    "connectTimeout": "connect_timeout",
}


def open_catalog(settings: CatalogSettings, secrets: Mapping[str, str]) -> Catalog:
    """Open the catalog that the jobs use.

    Args:
        settings: Where the catalog is.
        secrets: The values of `settings.secret_properties`, by property.

    Raises:
        ValueError: The catalog's URI is of a kind that pyiceberg can't open.
    """
    match settings.type:
        case "jdbc":
            own: dict[str, Any] = {"type": "sql", "uri": sqlalchemy_url(settings.uri, secrets)}
        case "rest":
            own = {"type": "rest", "uri": settings.uri, **secrets}
        case "hive":
            own = {"type": "hive", "uri": settings.uri, **secrets}
    own |= {"warehouse": settings.warehouse, **_storage(settings.properties, secrets)}
    return load_catalog(settings.name, **own)


def _storage(properties: Mapping[str, str], secrets: Mapping[str, str]) -> Mapping[str, str]:
    translated: dict[str, str] = {}
    for name, value in properties.items():
        if name == "io-impl":
            continue  # a Java class
        if name == "s3.path-style-access":
            translated["s3.force-virtual-addressing"] = "false" if value == "true" else "true"
        else:
            translated[_IO_PROPERTIES.get(name, name)] = value
    return {**translated, **{name: value for name, value in secrets.items() if name.startswith("s3.")}}


def sqlalchemy_url(jdbc: str, secrets: Mapping[str, str]) -> str:
    """`jdbc:postgresql://host/db` as SQLAlchemy spells it, with user and password; `jdbc:sqlite:/file` likewise.

    Of the parameters those are kept that say how safe the connection must be, and what is found over it.

    Raises:
        ValueError: It is neither PostgreSQL nor SQLite.
    """
    url = jdbc.removeprefix("jdbc:")
    if url.startswith("sqlite:"):
        return "sqlite:///" + url.removeprefix("sqlite:").split("?")[0]
    parts = urlsplit(url)
    if parts.scheme != "postgresql":
        raise ValueError(f"a JDBC catalog must be PostgreSQL or SQLite, not {parts.scheme or url}")
    given = dict(parse_qsl(parts.query))
    query: dict[str, str | list[str]] = {ours: given[name] for name, ours in _LIBPQ.items() if name in given}
    if schema := given.get("currentSchema"):
        query["options"] = f"-csearch_path={schema}"
    hosts = parts.netloc.split(",")
    if len(hosts) > 1:
        query["host"] = hosts
    made = URL.create(
        "postgresql+psycopg2",
        username=secrets.get("jdbc.user", given.get("user")),
        password=secrets.get("jdbc.password"),
        host=parts.hostname if len(hosts) == 1 else None,
        port=parts.port if len(hosts) == 1 else None,
        database=parts.path.removeprefix("/"),
        query=query,
    )
    return made.render_as_string(hide_password=False)

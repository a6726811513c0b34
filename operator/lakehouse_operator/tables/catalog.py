"""From the contract's catalog settings to a pyiceberg catalog."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from pyiceberg.catalog import Catalog, load_catalog

from lakehouse_contract.settings import CatalogSettings

_IO_PROPERTIES = {  # Java's names, which the settings use, and pyiceberg's
    "client.region": "s3.region",
    "s3.path-style-access": "s3.force-virtual-addressing",
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

    Raises:
        ValueError: It is neither PostgreSQL nor SQLite.
    """
    url = jdbc.removeprefix("jdbc:")
    if url.startswith("sqlite:"):
        return "sqlite:///" + url.removeprefix("sqlite:").split("?")[0]
    parts = urlsplit(url)
    if parts.scheme != "postgresql":
        raise ValueError(f"a JDBC catalog must be PostgreSQL or SQLite, not {parts.scheme or url}")
    user, password = secrets.get("jdbc.user"), secrets.get("jdbc.password")
    login = ":".join(quote(part, safe="") for part in (user, password) if part)
    return f"postgresql+psycopg2://{login}{'@' if login else ''}{parts.netloc}{parts.path}"

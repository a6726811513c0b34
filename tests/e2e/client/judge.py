"""Ask the oracle about everything that was sent, and print its verdict as JSON.

Runs in a pod. Its arguments: brokers, the pipeline's manifest, the folder with the senders' truths, and the layers to
judge: `bronze` or `all`. Secrets come from the environment, under the names that the jobs use.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml

from lakehouse_contract.layout import QUARANTINE_SUFFIX
from lakehouse_operator.planning.job_settings import catalog_settings
from lakehouse_operator.planning.pipeline import Problems
from lakehouse_operator.planning.points import DISCARDED_PREFIX
from lakehouse_operator.planning.validate import validate
from lakehouse_operator.reference import oracle
from lakehouse_operator.reference.topics import first_of_each, read_dead_letters, read_produced
from lakehouse_operator.tables.catalog import open_catalog

FACTS = "silver.conversions"


def main(brokers: str, manifest: str, folder: str, layers: str) -> None:
    """Print the verdict."""
    pipeline = validate(yaml.safe_load(Path(manifest).read_text()), {})
    if isinstance(pipeline, Problems):
        raise SystemExit(str(pipeline))
    settings = catalog_settings(pipeline.spec)
    secrets = {name: os.environ[variable] for name, variable in settings.secret_properties.items()}
    catalog = open_catalog(settings, secrets)
    connection = {"bootstrap.servers": brokers}
    tables = {"bronze": pipeline.bronze_table}
    above = {
        "conversions": FACTS,
        "conversions_quarantine": FACTS + QUARANTINE_SUFFIX,
        "dim_users": "silver.dim_users",
        **{f"gold_{name}": f"gold.{name}" for name in oracle.GOLD_TABLES},
    }
    if layers == "all":
        tables |= above
    relations: dict[str, Any] = {name: catalog.load_table(table).scan().to_arrow() for name, table in tables.items()}
    letters = read_dead_letters(connection, pipeline.dead_letter_topic)
    if any(name.startswith(DISCARDED_PREFIX) for name in catalog.load_table(pipeline.bronze_table).refs()):
        letters = first_of_each(letters)  # the stream went back once, and can't take back what is in Kafka
    with oracle.connect() as duck:
        oracle.load(
            duck,
            truth=f"{folder}/*/truth/truth-*.parquet",
            produced=read_produced(connection, pipeline.spec.source.topic),
            dead_letters=letters,
            **relations,
        )
        if layers == "all":
            checks = oracle.check_everything(duck)
        else:
            oracle.prepare(duck, oracle.Lateness())
            checks = oracle.check_bronze(duck)
    print(json.dumps([{"name": each.name, "passed": each.passed, "report": each.report()} for each in checks]))


if __name__ == "__main__":
    main(*sys.argv[1:])

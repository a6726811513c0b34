"""The bronze job: `python -m lakehouse_jobs.bronze --settings JSON`.

It reads the topic, writes each event that can be placed to the Iceberg table once, and everything else to the dead
letters. It creates the table if need be, checks its own plan, submits the job and prints the job's id.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from lakehouse_contract import decoding, layout, state
from lakehouse_contract.commits import ExitCode
from lakehouse_contract.decoding import Problem, SettingsRefused
from lakehouse_contract.settings import BronzeSettings
from lakehouse_jobs import (
    bronze_sql,
    dead_letter_topic,
    iceberg_catalog,
    java_failures,
    kafka_client,
    plan_check,
    plan_ids,
    source_topic,
)
from lakehouse_jobs.flink_options import job_options
from lakehouse_jobs.flink_session import FlinkSession


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Submit the job that the command line describes. Answer the exit code."""
    from py4j.protocol import Py4JJavaError  # noqa: PLC0415 - the module is read where PyFlink is not
    from pyflink.util.exceptions import JavaException  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="lakehouse_jobs.bronze", description="Kafka to the bronze Iceberg table.")
    parser.add_argument("--settings", required=True, help="the settings of the job, as JSON")
    parser.add_argument("--target", metavar="HOST:PORT", help="the cluster's REST endpoint")
    parser.add_argument("--from-savepoint", metavar="PATH", help="start from this savepoint or retained checkpoint")
    options = parser.parse_args(arguments)
    try:
        settings = decoding.from_json(BronzeSettings, options.settings)
        job_id = submit(settings, environment, target=options.target, from_savepoint=options.from_savepoint)
    except SettingsRefused as refused:
        for problem in refused.problems:
            print(f"refused: {problem}", file=sys.stderr)
        return ExitCode.SETTINGS_REFUSED
    except plan_check.PlanRefused as refused:
        print(f"refused: {refused}", file=sys.stderr)
        return ExitCode.CODE
    except (Py4JJavaError, JavaException) as error:
        if what := java_failures.unreachable(str(error)):
            print(f"unavailable: {what}", file=sys.stderr)
            return ExitCode.UNAVAILABLE
        print(error, file=sys.stderr)
        return ExitCode.CODE
    print(job_id)
    return ExitCode.SUCCEEDED


def submit(
    settings: BronzeSettings,
    environment: Mapping[str, str],
    *,
    target: str | None = None,
    from_savepoint: str | None = None,
) -> str:
    """Submit the job of `settings` and answer its id.

    Args:
        settings: What to ingest.
        environment: Where the secrets are.
        target: See `FlinkSession`.
        from_savepoint: See `FlinkSession`.

    Raises:
        SettingsRefused: Something in the settings can't be used, or the table that they name is another one.
        PlanRefused: The plan would not keep bronze's promises.
    """
    _check_state(settings)
    kafka_client.check_secrets(settings.kafka, environment)
    catalog_secrets = _secrets(settings.catalog.secret_properties, environment, "catalog")
    source = bronze_sql.kafka_source(settings)
    session = FlinkSession(job_options(settings), target=target, from_savepoint=from_savepoint)
    largest = dead_letter_topic.largest_record(session.jvm, settings)
    properties = iceberg_catalog.catalog_properties(settings.catalog, catalog_secrets)
    job = bronze_sql.statements(
        settings,
        source_options=source,
        dead_letter_options=bronze_sql.kafka_dead_letters(settings, largest),
        catalog_options=iceberg_catalog.flink_catalog_options(properties),
        largest_dead_letter=largest,
    )
    table = layout.bronze(settings.table, settings.compression)
    iceberg_catalog.ensure_table(session.jvm, settings.catalog, catalog_secrets, table)
    session.define(job.definitions)
    plan_check.check(session.explain(job.inserts))
    if settings.kafka.offsets_gone == "fail":
        source_topic.begin(session.jvm, settings.kafka)
    return session.submit(job.inserts, lambda plan: plan_ids.with_fixed_ids(plan, job.tables))


def _check_state(settings: BronzeSettings) -> None:
    """Refuse to start from state that this job can't read, before Flink tries."""
    if settings.state_version not in (0, state.VERSION):
        told = (
            f"the stream's state is version {settings.state_version}, and the job in this image keeps version "
            f"{state.VERSION}: use an image that was made with the operator that runs (docs/state.md)"
        )
        raise SettingsRefused((Problem("stateVersion", told),))


def _secrets(variables: Mapping[str, str], environment: Mapping[str, str], section: str) -> dict[str, str]:
    """The values of secret properties, by the name of the property."""
    missing = tuple(
        Problem(f"{section}.secretProperties.{name}", f"the environment has no variable {variable}")
        for name, variable in variables.items()
        if variable not in environment
    )
    if missing:
        raise SettingsRefused(missing)
    return {name: environment[variable] for name, variable in variables.items()}


if __name__ == "__main__":
    sys.exit(main())

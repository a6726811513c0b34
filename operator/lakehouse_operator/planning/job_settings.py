"""From a valid pipeline to the settings of its jobs, and the revision of each definition."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lakehouse_contract import layout, state
from lakehouse_contract.decoding import decode, encode
from lakehouse_contract.settings import (
    AuditLimits,
    BronzeSettings,
    CatalogSettings,
    CheckpointSettings,
    CompactionSettings,
    DayRange,
    EventSettings,
    ExpirySettings,
    GoldSettings,
    KafkaSettings,
    MaintenanceSettings,
    RestartSettings,
    RunSettings,
    SilverSettings,
    SnapshotRange,
)
from lakehouse_operator.api.pipeline import PipelineSpec
from lakehouse_operator.api.run import RunSpec
from lakehouse_operator.api.values import mebibytes, seconds
from lakehouse_operator.planning import secrets
from lakehouse_operator.planning.names import digest
from lakehouse_operator.planning.pipeline import BatchStageName, GoldModels, OwnJob, SilverTables, ValidPipeline


def bronze_settings(pipeline: ValidPipeline) -> BronzeSettings:
    """The settings of the streaming job."""
    bronze, source = pipeline.spec.bronze, pipeline.spec.source
    return BronzeSettings(
        pipeline=pipeline.name,
        namespace=pipeline.namespace,
        kafka=KafkaSettings(
            bootstrap_servers=source.bootstrap_servers,
            topic=source.topic,
            consumer_group=pipeline.consumer_group,
            properties={**source.properties, **secrets.kafka_properties(source.security)},
            secret_properties=secrets.kafka_secret_properties(source.security),
            login=secrets.kafka_login(source.security),
            offsets_gone=source.offsets_gone,
        ),
        catalog=catalog_settings(pipeline.spec),
        checkpoint=CheckpointSettings(
            directory=bronze.checkpoint.directory,
            savepoint_directory=bronze.checkpoint.savepoint_directory or bronze.checkpoint.directory,
            interval_seconds=seconds(bronze.checkpoint.interval),
            timeout_seconds=seconds(bronze.checkpoint.timeout),
        ),
        table=pipeline.bronze_table,
        dead_letter_topic=pipeline.dead_letter_topic,
        event=EventSettings(id_field=source.event.id_field, time_field=source.event.time_field),
        restart=RestartSettings(
            strategy=bronze.restart.strategy,
            attempts=bronze.restart.attempts,
            delay_seconds=seconds(bronze.restart.delay),
            max_delay_seconds=seconds(bronze.restart.max_delay),
            window_seconds=seconds(bronze.restart.window),
        ),
        watermark_delay_seconds=seconds(bronze.watermark_delay),
        allowed_lateness_seconds=seconds(bronze.allowed_lateness),
        too_late=bronze.too_late,
        future_tolerance_seconds=seconds(bronze.future_tolerance),
        dedup_ttl_seconds=seconds(bronze.dedup_ttl),
        idle_timeout_seconds=seconds(bronze.idle_timeout),
        transaction_timeout_seconds=seconds(bronze.transaction_timeout),
        parallelism=bronze.parallelism,
        write_parallelism=bronze.write_parallelism,
        compression=bronze.compression,
        state_version=state.VERSION,
    )


def state_version(deployment: Mapping[str, Any]) -> int:
    """The version of the state that the job of a FlinkDeployment's spec keeps; 0 where it does not say."""
    arguments = deployment["job"]["args"]
    settings: dict[str, Any] = json.loads(arguments[arguments.index("--settings") + 1])
    return int(settings.get("stateVersion", 0))


def catalog_settings(spec: PipelineSpec) -> CatalogSettings:
    """The catalog as every job sees it. The user's own `properties` win over what follows from `storage`."""
    catalog = spec.catalog
    return CatalogSettings(
        type=catalog.type,
        uri=catalog.uri,
        warehouse=catalog.warehouse,
        name=catalog.name,
        properties={**_storage_properties(spec), **catalog.properties},
        secret_properties=secrets.catalog_secret_properties(catalog),
    )


def _storage_properties(spec: PipelineSpec) -> dict[str, str]:
    """Iceberg's file access. A REST catalog without `storage` is left to say it itself."""
    storage = spec.storage
    on_s3 = spec.catalog.warehouse.startswith(("s3://", "s3a://"))
    if storage is None:
        return {"io-impl": "org.apache.iceberg.aws.s3.S3FileIO"} if on_s3 and spec.catalog.type != "rest" else {}
    properties = {"io-impl": "org.apache.iceberg.aws.s3.S3FileIO", "client.region": storage.region}
    if storage.endpoint is not None:
        properties["s3.endpoint"] = storage.endpoint
    if storage.path_style_access:
        properties["s3.path-style-access"] = "true"
    return properties


def run_settings(name: str, spec: RunSpec) -> RunSettings:
    """What a job is told about the LakehouseRun that it executes.

    Raises:
        ValueError: The run has no revision: whoever builds the manifest of a run decides it first.
    """
    if spec.revision is None:
        raise ValueError(f"run {name} has no revision")
    interval, taken, days = spec.data_interval, spec.source_range, spec.days
    return RunSettings(
        id=name,
        revision=spec.revision,
        interval_start=interval.start if interval else None,
        interval_end=interval.end if interval else None,
        snapshots=SnapshotRange(upto=int(taken.upto), after=int(taken.after) if taken.after else None)
        if taken
        else None,
        days=DayRange(
            first=days.first,
            last=days.last,
            at_snapshot=int(days.at_snapshot) if days.at_snapshot else None,
            audit=decode(AuditLimits, days.audit.to_raw()) if days.audit else AuditLimits(),
        )
        if days
        else None,
    )


def silver_settings(pipeline: ValidPipeline, run: RunSettings) -> SilverSettings:
    """The settings of the built-in silver job.

    Raises:
        ValueError: The pipeline has no built-in silver.
    """
    if not isinstance(pipeline.silver, SilverTables):
        raise ValueError(f"{pipeline.name} has no built-in silver")
    return SilverSettings(
        pipeline=pipeline.name,
        catalog=catalog_settings(pipeline.spec),
        run=run,
        bronze_table=pipeline.bronze_table,
        columns=pipeline.silver.columns,
        tables=pipeline.silver.tables,
        dimensions=pipeline.silver.dimensions,
        compression=pipeline.spec.bronze.compression,
    )


def gold_settings(pipeline: ValidPipeline, run: RunSettings) -> GoldSettings:
    """The settings of the built-in gold job.

    Raises:
        ValueError: The pipeline has no built-in gold.
    """
    if not isinstance(pipeline.gold, GoldModels):
        raise ValueError(f"{pipeline.name} has no built-in gold")
    return GoldSettings(
        pipeline=pipeline.name,
        catalog=catalog_settings(pipeline.spec),
        run=run,
        sources=pipeline.gold.sources,
        models=pipeline.gold.models,
        compression=pipeline.spec.bronze.compression,
    )


def maintenance_settings(pipeline: ValidPipeline, run: RunSettings) -> MaintenanceSettings:
    """The settings of the maintenance job: every table that the pipeline writes.

    Raises:
        ValueError: The pipeline has no maintenance.
    """
    wanted = pipeline.spec.maintenance
    if wanted is None:
        raise ValueError(f"{pipeline.name} has no maintenance")
    return MaintenanceSettings(
        pipeline=pipeline.name,
        catalog=catalog_settings(pipeline.spec),
        run=run,
        bronze_table=pipeline.bronze_table,
        tables=written_tables(pipeline),
        readers=_bronze_readers(pipeline),
        compaction=CompactionSettings(
            target_file_bytes=mebibytes(wanted.compaction.target_file_size) * 1024 * 1024,
            min_age_seconds=seconds(wanted.compaction.min_age),
            min_input_files=wanted.compaction.min_input_files,
            max_bytes=mebibytes(wanted.compaction.max_size) * 1024 * 1024,
        )
        if wanted.compaction.enabled
        else None,
        expiry=ExpirySettings(
            retention_seconds=seconds(wanted.expiry.retention),
            keep_snapshots=wanted.expiry.keep_snapshots,
            orphan_retention_seconds=seconds(wanted.expiry.orphan_retention),
        )
        if wanted.expiry.enabled
        else None,
    )


def written_tables(pipeline: ValidPipeline) -> tuple[str, ...]:
    """Every table that the pipeline writes: bronze, silver with its quarantine and quality results, gold."""
    silver, gold = pipeline.silver, pipeline.gold
    tables = [pipeline.bronze_table]
    if isinstance(silver, OwnJob):
        tables += silver.writes
    if isinstance(silver, SilverTables):
        tables += [name for table in silver.tables for name in (table.name, table.name + layout.QUARANTINE_SUFFIX)]
        tables += silver.results
        tables += [dimension.name for dimension in silver.dimensions]
    if isinstance(gold, OwnJob):
        tables += gold.writes
    if isinstance(gold, GoldModels):
        tables += [model.name for model in gold.models]
        tables += gold.results
    return tuple(tables)


def _bronze_readers(pipeline: ValidPipeline) -> tuple[str, ...]:
    """The tables whose commits say how far they have come in bronze: those of the built-in silver job."""
    if not isinstance(pipeline.silver, SilverTables):
        return ()
    return tuple(
        name for table in pipeline.silver.tables for name in (table.name, table.name + layout.QUARANTINE_SUFFIX)
    )


def revision(pipeline: ValidPipeline, stage: BatchStageName) -> str:
    """The revision of what a batch stage computes: 12 digits that change when its results could.

    Where and how it runs (schedule, image of the built-in job, resources) is no part of it. An own job's code is its
    definition, so its image is.
    """
    return digest(_canonical(_definition(pipeline, stage)))


def _definition(pipeline: ValidPipeline, stage: BatchStageName) -> object:
    if stage == "maintenance":
        return {"maintenance": pipeline.stage("maintenance").to_raw()}
    computed = pipeline.silver if stage == "silver" else pipeline.gold
    if isinstance(computed, GoldModels):  # in which order they stand makes no difference
        computed = replace(computed, models=tuple(sorted(computed.models, key=lambda model: model.name)))
    image = pipeline.image(stage) if isinstance(computed, OwnJob) else None
    source = pipeline.bronze_table if stage == "silver" else None
    return {"stage": stage, "source": source, "image": image, "computes": encode(computed)}


def spec_hash(spec: Mapping[str, Any]) -> str:
    """The hash of a whole spec, as it stands in the resource: it names the ConfigMap that keeps it."""
    return digest(_canonical(spec))


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

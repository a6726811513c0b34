"""The children: as they were last looked at, within every limit, and nothing in them that should not be."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_contract.decoding import encode, from_json
from lakehouse_contract.settings import (
    BronzeSettings,
    GoldSettings,
    MaintenanceSettings,
    OwnJobSettings,
    SilverSettings,
)
from lakehouse_jobs import kafka_client
from lakehouse_operator.planning import image_layout, job_settings
from lakehouse_operator.planning.flink_manifest import build_flink_deployment
from lakehouse_operator.planning.pipeline import ValidPipeline
from planning import children, examples, golden

SECRETS = {
    "spec__source__security": {"protocol": "SASL_SSL", "mechanism": "PLAIN", "secretRef": {"name": "kafka-user"}},
    "spec__catalog__secretRef": {"name": "catalog-user"},
    "spec__storage": {"secretRef": {"name": "s3-user"}},
}


def roman(**changes: Any) -> ValidPipeline:
    return examples.valid("roman-numerals", **changes)


@pytest.mark.parametrize("name", sorted(golden.manifests()))
def test_a_manifest_is_as_it_was_last_looked_at(name: str) -> None:
    kept = (golden.FOLDER / name).read_text(encoding="utf-8")
    assert golden.text(golden.manifests()[name]) == kept, "if it is meant: python tests/planning/golden.py --write"


def test_no_golden_file_is_left_over() -> None:
    assert {file.name for file in golden.FOLDER.glob("*.yaml")} == set(golden.manifests())


def test_the_stream_gets_its_settings_and_nothing_else() -> None:
    pipeline = roman()
    arguments = build_flink_deployment(pipeline)["spec"]["job"]["args"]
    assert arguments[:-1] == ["-pyclientexec", "/usr/bin/python3", "-py", "/opt/lakehouse/bronze.py", "--settings"]
    assert from_json(BronzeSettings, arguments[-1]) == job_settings.bronze_settings(pipeline)


def test_a_run_gets_its_settings_and_nothing_else() -> None:
    pipeline = roman(spec__maintenance={})
    kinds: dict[Any, type] = {"silver": SilverSettings, "gold": GoldSettings, "maintenance": MaintenanceSettings}
    for stage, kind in kinds.items():
        spec = children.application(pipeline, stage)["spec"]
        assert spec["mainApplicationFile"] == f"local:///opt/lakehouse/{stage}.py"
        assert spec["arguments"][:-1] == ["--settings"]
        settings = from_json(kind, spec["arguments"][-1])
        assert settings.run.id == f"roman-numerals-{stage}-20260131t0500"
        assert settings.run.interval_end == children.END
        assert stage != "silver" or settings.run.snapshots.upto == 8437218941234567890


def test_a_job_of_ones_own_gets_its_arguments_then_its_settings() -> None:
    own = {"entryPoint": "local:///opt/mine.py", "arguments": ["--fast"], "writes": ["silver.mine"]}
    pipeline = roman(
        spec__silver={"image": "mine:1", "job": own},
        spec__gold__models=[{"name": "gold.all", "kind": "full", "sql": "SELECT * FROM silver.mine"}],
    )
    spec = children.application(pipeline, "silver")["spec"]
    assert (spec["image"], spec["mainApplicationFile"]) == ("mine:1", "local:///opt/mine.py")
    assert spec["arguments"][:2] == ["--fast", "--settings"]
    settings = from_json(OwnJobSettings, spec["arguments"][2])
    assert (settings.reads, settings.writes) == (("bronze.conversion_events",), ("silver.mine",))


def test_the_memory_of_an_attempt_can_be_raised() -> None:
    spec = children.application(roman(), "silver", driver_memory_mib=3000, executor_memory_mib=4000)["spec"]
    assert (spec["driver"]["memory"], spec["executor"]["memory"]) == ("3000m", "4000m")
    assert (spec["driver"]["memoryOverhead"], spec["driver"]["cores"]) == ("512m", 1)


@pytest.mark.parametrize("name", examples.names())
def test_spelling_out_every_default_restarts_nothing(name: str) -> None:
    """The server spells them out, so a file and the object made of it must give the same manifests to the letter."""
    pipeline = examples.valid(name)
    spelled = examples.valid(examples.raw(name) | {"spec": json.loads(json.dumps(pipeline.spec.to_raw()))})
    assert golden.text(build_flink_deployment(spelled)) == golden.text(build_flink_deployment(pipeline))
    for stage in pipeline.stages:
        assert golden.text(children.application(spelled, stage)) == golden.text(children.application(pipeline, stage))


def test_secrets_come_by_reference_only() -> None:
    pipeline = roman(**SECRETS)
    stream = build_flink_deployment(pipeline)["spec"]["podTemplate"]["spec"]["containers"][0]["env"]
    found = {entry["name"]: entry for entry in stream}
    assert found["CATALOG_JDBC_PASSWORD"]["valueFrom"]["secretKeyRef"] == {"name": "catalog-user", "key": "password"}
    assert found["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "s3-user"
    assert found["KAFKA_PASSWORD"]["valueFrom"]["secretKeyRef"] == {"name": "kafka-user", "key": "password"}


def test_a_batch_job_does_not_get_the_secrets_of_kafka() -> None:
    application = children.application(roman(**SECRETS), "silver")
    assert "KAFKA" not in json.dumps(application)
    for role in ("driver", "executor"):
        environment = application["spec"][role]["template"]["spec"]["containers"][0]["env"]
        assert {"AWS_ACCESS_KEY_ID", "CATALOG_JDBC_USER"} <= {entry["name"] for entry in environment}


def test_every_variable_that_the_settings_name_is_in_the_environment() -> None:
    everything = {
        **SECRETS,
        "spec__source__security": {
            "protocol": "SASL_SSL",
            "mechanism": "SCRAM-SHA-256",
            "secretRef": {"name": "k"},
            "verifyWith": "secret",
            "clientCertificate": True,
        },
    }
    pipeline = roman(**everything)
    settings = job_settings.bronze_settings(pipeline)
    named = {*kafka_client.variables(settings.kafka), *settings.catalog.secret_properties.values()}
    stream = build_flink_deployment(pipeline)["spec"]["podTemplate"]["spec"]["containers"][0]["env"]
    assert named <= {entry["name"] for entry in stream}
    assert settings.kafka.properties["ssl.truststore.type"] == "PEM"
    assert {"ssl.truststore.certificates", "ssl.keystore.key"} <= set(settings.kafka.secret_properties)
    assert {"KAFKA_USERNAME", "KAFKA_PASSWORD"} <= named


def test_every_container_is_restricted_and_has_the_folders_that_it_writes() -> None:
    pipeline = roman()
    application = children.application(pipeline, "silver")["spec"]
    templates = {
        "/opt/flink/log": build_flink_deployment(pipeline)["spec"]["podTemplate"],
        "/opt/spark/work-dir": application["driver"]["template"],
    }
    for folder, template in templates.items():
        (container,) = template["spec"]["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        }
        assert {"/tmp", folder} == {mount["mountPath"] for mount in container["volumeMounts"]}
        assert template["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert template["spec"]["securityContext"]["runAsUser"] > 0


def test_what_would_lose_data_is_set_and_the_user_can_add_what_is_harmless() -> None:
    pipeline = roman(spec__bronze__flinkConfiguration={"taskmanager.memory.managed.fraction": "0.5"})
    configuration = build_flink_deployment(pipeline)["spec"]["flinkConfiguration"]
    assert configuration["execution.checkpointing.unaligned.enabled"] == "false"
    assert configuration["high-availability.type"] == "kubernetes"
    assert configuration["kubernetes.operator.job.upgrade.last-state-fallback.enabled"] == "false"
    assert configuration["kubernetes.operator.savepoint.cleanup.enabled"] == "false"
    assert configuration["taskmanager.memory.managed.fraction"] == "0.5"
    assert "$internal.pipeline.job-id" not in configuration


def test_flinks_configuration_can_be_written_as_a_tree() -> None:
    """The Flink operator nests the keys: of `s3.endpoint` and `s3.endpoint.region` only one would be left."""
    keys = sorted(build_flink_deployment(roman())["spec"]["flinkConfiguration"])
    assert [(key, other) for key in keys for other in keys if other.startswith(f"{key}.")] == []
    assert "fs.s3a.endpoint.region" in keys


def test_a_pipeline_without_savepoints_has_no_savepoint_directory() -> None:
    pipeline = examples.valid(
        "minimal",
        spec__bronze__checkpoint__savepointDirectory=...,
        spec__bronze__upgrade={"mode": "lastState"},
        spec__bronze__deletion={"policy": "Force"},
    )
    assert "state.savepoints.dir" not in build_flink_deployment(pipeline)["spec"]["flinkConfiguration"]


def test_the_owners_are_named_by_uid() -> None:
    raw = examples.changed("minimal", metadata__uid="7-7-7")
    (owner,) = build_flink_deployment(examples.valid(raw))["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("LakehousePipeline", "7-7-7", True)
    (owner,) = children.application(roman(), "silver")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("LakehouseRun", "4-5-6")


@given(
    st.recursive(st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
)
def test_settings_arrive_as_they_were_sent_whatever_they_hold(value: object) -> None:
    argument = image_layout.settings_argument(value)
    assert json.loads(argument) == encode(value)
    assert re.fullmatch(r"[ -~]*", argument)
    assert not set(argument) & set("$;'#`&|~\n")

"""The operator works with the rights that the chart gives it, and with no others."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from crds import spoilers
from handlers.actors import NAME, Actors, manifest
from helm.chart import Manifest, is_hook, render
from helm.guarded import Guarded, Right
from helm.pods import answer
from helm.release import Release, eventually, reaches_ready
from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.errors import Refused
from lakehouse_operator.cluster.kinds import (
    FLINK_DEPLOYMENT,
    FLINK_STATE_SNAPSHOT,
    LAKEHOUSE_BACKFILL,
    LAKEHOUSE_PIPELINE,
    LAKEHOUSE_RUN,
    SPARK_APPLICATION,
)
from lakehouse_operator.cluster.port import Cluster, Event
from lakehouse_operator.cluster.rest import Login
from lakehouse_operator.planning.names import owned_by

BESIDE_THE_REQUEST = {
    Right("create", "flink.apache.org", "flinkdeployments"),
    Right("update", "lakehouse.dev", "lakehousepipelines/finalizers"),
    Right("update", "lakehouse.dev", "lakehouseruns/finalizers"),
}
"""Asked for while a request of another name is served, so the audit log does not show it: an apply that creates, and an
owner whose deletion is blocked."""

APPLICATION = {
    "apiVersion": SPARK_APPLICATION.api_version,
    "kind": SPARK_APPLICATION.name,
    "spec": {
        "type": "Python",
        "mainApplicationFile": "local:///job.py",
        "sparkVersion": "4.1.4",
        "driver": {},
        "executor": {},
    },
}
SNAPSHOT = {
    "apiVersion": FLINK_STATE_SNAPSHOT.api_version,
    "kind": FLINK_STATE_SNAPSHOT.name,
    "spec": {"jobReference": {"kind": "FlinkDeployment", "name": "clicks-bronze"}, "savepoint": {}},
}

LEFTOVER = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{NAME}-bronze-cluster-config-map"}}
"""What Flink has left there of an earlier stream of this name."""

WATCHED_BY_KOPF = {
    Right("list", "", "namespaces"),
    Right("list", "apiextensions.k8s.io", "customresourcedefinitions"),
}
"""What kopf asks for by itself and does without: `handlers.upstream` looks for new kinds then."""


async def test_with_roles_in_its_namespaces_alone_it_reconciles_a_pipeline(
    install: Callable[..., Release], guarded: Guarded, team: Actors
) -> None:
    release = install("one-team", watchNamespaces=[team.namespace], observation={"secrets": {team.namespace: ["s3"]}})
    release.start()
    await team.create_pipeline()
    await reaches_ready(team)
    assert answer(release.ports["health"], "/healthz")[0] == 200
    assert "lakehouse_leading 1.0" in answer(release.ports["metrics"], "/metrics")[1]
    assert guarded.refused_to(release.account) <= WATCHED_BY_KOPF
    may = partial(guarded.may, release.account)
    assert may("get", "secrets/s3", team.namespace)
    assert not may("get", "secrets/another", team.namespace)
    assert not may("list", "secrets", team.namespace)
    assert not may("list", "lakehousepipelines.lakehouse.dev", release.namespace)
    assert not may("delete", "lakehousepipelines.lakehouse.dev", team.namespace)


async def a_pipelines_life(team: Actors) -> None:
    """A pipeline from its creation to its deletion, with a savepoint, a run and a backfill of a person's own."""
    await team.cluster.create_once(in_namespace(team, LEFTOVER))
    await team.create_pipeline(silver=True, deletion={"policy": "Force"})
    await reaches_ready(team)
    await annotate(team, "lakehouse.dev/savepoint", "now")
    await takes_the_savepoint(team)
    await team.cluster.apply(in_namespace(team, spoilers.run(reason="manual", revision=..., sourceRange=...)))
    await team.cluster.apply(in_namespace(team, spoilers.backfill(approved=False)))

    async def has_application() -> bool:
        return bool(await team.applications())

    async def is_judged() -> bool:
        attempts = [each for run in await team.runs() for each in run.get("status", {}).get("attempts", ())]
        return any(each.get("failureClass") for each in attempts)

    async def has_plan() -> bool:
        (backfill,) = await team.cluster.list_labelled(LAKEHOUSE_BACKFILL, team.namespace, {})
        return "phase" in backfill.get("status", {})

    async def is_gone() -> bool:
        return await team.cluster.list_labelled(LAKEHOUSE_PIPELINE, team.namespace, {}) == []

    await eventually(has_application)
    (attempt, *_) = await team.applications()
    await team.spark_says(attempt["metadata"]["name"], "FAILED", "driver container failed with ExitCode: 69")
    await eventually(is_judged)
    await eventually(has_plan)
    uid = (await team.pipeline())["metadata"]["uid"]
    await team.cluster.delete(LAKEHOUSE_PIPELINE, team.namespace, NAME, uid)
    await eventually(is_gone)


def in_namespace(team: Actors, resource: dict[str, Any]) -> dict[str, Any]:
    return {**resource, "metadata": {**resource["metadata"], "namespace": team.namespace}}


async def annotate(team: Actors, name: str, value: str) -> None:
    annotated = manifest(team.namespace, silver=True, deletion={"policy": "Force"})
    await team.cluster.apply({**annotated, "metadata": {**annotated["metadata"], "annotations": {name: value}}})


async def takes_the_savepoint(team: Actors) -> None:
    """The Flink operator takes it, and the lakehouse operator then removes the request."""

    async def snapshots() -> list[dict[str, Any]]:
        await team.follow()
        return await team.cluster.list_labelled(FLINK_STATE_SNAPSHOT, team.namespace, {})

    async def is_asked() -> bool:
        return bool(await snapshots())

    async def is_tidied() -> bool:
        return not await snapshots()

    await eventually(is_asked)
    (snapshot,) = await snapshots()
    await team.cluster.write_status(
        FLINK_STATE_SNAPSHOT,
        team.namespace,
        snapshot["metadata"]["name"],
        uid=snapshot["metadata"]["uid"],
        status={"state": "COMPLETED", "path": "s3://lake/savepoints/savepoint-1", "failures": 0},
    )
    await eventually(is_tidied)


async def what_a_life_without_trouble_does_not_need(account: Cluster, namespace: str) -> None:
    """What the operator does after a crash, at a limit or in the course of time, with its own account."""
    run = {**spoilers.run(), "metadata": {"name": "clicks-silver-20260131t0500", "namespace": namespace}}
    application = {**APPLICATION, "metadata": {"name": "an-attempt", "namespace": namespace}}
    snapshot = {**SNAPSHOT, "metadata": {"name": "a-savepoint", "namespace": namespace}}
    for child, kind in ((run, LAKEHOUSE_RUN), (application, SPARK_APPLICATION), (snapshot, FLINK_STATE_SNAPSHOT)):
        # A crash came between creating the child and noting it: the next round finds that it exists (`_create`).
        await account.create_once(child)
        found = await account.create_once(child)
        assert not found.is_new
        # A run beyond the history's limit, an attempt that takes too long (`planning.batch`).
        await account.delete(kind, namespace, child["metadata"]["name"], found.resource["metadata"]["uid"])
    event = Event(
        kind=LAKEHOUSE_RUN,
        namespace=namespace,
        name="clicks-silver",
        uid="1",
        type="Normal",
        reason="Same",
        message="the same once more",
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    await account.announce(event)
    await account.announce(event)


async def test_with_a_cluster_role_it_uses_every_right_that_it_has_and_is_refused_nothing(
    install: Callable[..., Release], guarded: Guarded, team: Actors, tmp_path: Path
) -> None:
    release = install("audited")
    release.start()
    await a_pipelines_life(team)
    async with KubernetesCluster(Login(guarded.login(release.account, tmp_path))) as account:
        await what_a_life_without_trouble_does_not_need(account, team.namespace)
    assert release.containers["audited-0"].end() == 0
    assert guarded.refused_to(release.account) == set()
    granted = rights_of(render(release.values, release=release.name, namespace=release.namespace), release.name)
    assert granted == guarded.used_by(release.account) | BESIDE_THE_REQUEST


def rights_of(manifests: list[Manifest], role: str) -> set[Right]:
    """What the roles grant whose names begin with that of the release."""
    roles = [each for each in manifests if each["kind"] in ("Role", "ClusterRole") and not is_hook(each)]
    return {
        Right(verb, group, resource)
        for each in roles
        if each["metadata"]["name"].startswith(role)
        for rule in each["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize("right", sorted(BESIDE_THE_REQUEST), ids=lambda right: f"{right.verb}-{right.resource}")
async def test_the_rights_that_no_log_shows_are_needed_too(
    guarded: Guarded, install: Callable[..., Release], team: Actors, tmp_path: Path, right: Right
) -> None:
    release = install("complete", watchNamespaces=[team.namespace])
    roles = render(release.values, release=release.name, namespace=release.namespace)
    granted = {each for each in rights_of(roles, release.name) if each.group != "coordination.k8s.io"}
    await team.create_pipeline()
    for name, rights in (("all", granted), ("all-but-one", granted - {right})):
        grant(guarded, team.namespace, name, rights)
    async with KubernetesCluster(Login(guarded.login(f"{team.namespace}:all", tmp_path))) as account:
        await children(account, team, "allowed")
    async with KubernetesCluster(Login(guarded.login(f"{team.namespace}:all-but-one", tmp_path))) as account:
        with pytest.raises(Refused, match="forbidden"):
            await children(account, team, "refused")


async def children(account: Cluster, team: Actors, name: str) -> None:
    """One child of each kind that needs such a right, made as the operator makes them."""
    metadata = {"namespace": team.namespace, "name": name}
    uid = (await team.pipeline())["metadata"]["uid"]
    await account.apply(
        {
            "apiVersion": FLINK_DEPLOYMENT.api_version,
            "kind": FLINK_DEPLOYMENT.name,
            "metadata": metadata,
            "spec": {"flinkVersion": "v1_20"},
        }
    )
    run = {**spoilers.run(), "metadata": {**metadata, "ownerReferences": owned_by("LakehousePipeline", NAME, uid)}}
    uid = (await account.create_once(run)).resource["metadata"]["uid"]
    owners = owned_by("LakehouseRun", name, uid)
    await account.create_once({**APPLICATION, "metadata": {**metadata, "ownerReferences": owners}})


def grant(guarded: Guarded, namespace: str, name: str, rights: set[Right]) -> None:
    """Make a service account with exactly these rights in its namespace."""
    metadata = {"name": name, "namespace": namespace}
    rules = [{"apiGroups": [each.group], "resources": [each.resource], "verbs": [each.verb]} for each in rights]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    objects = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", **metadata}],
        },
    ]
    guarded.plane.kubectl(
        "apply", "--filename=-", stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": objects})
    )

"""The life of a release: installed, tested, upgraded, removed. Pipelines run on, and nothing is left to hold them."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers.actors import NAME, Actors
from helm.chart import CHART, SAMPLE, HelmRefused, helm
from helm.guarded import Guarded
from helm.release import Release, eventually, reaches_ready
from lakehouse_operator.cluster.kinds import LAKEHOUSE_PIPELINE
from lakehouse_operator.planning.plan import FINALIZER


async def test_helm_test_says_that_a_release_is_well(install: Callable[..., Release]) -> None:
    release = install("tested")
    release.start()
    await asyncio.to_thread(release.helm_while_the_cluster_works, "test")
    said = release.containers["tested-test"].log.read_text()
    assert "ok: 0 pipelines in all namespaces" in said
    assert "ok: tested-0_uid-of-tested-0 leads" in said
    assert "/metrics answers" in said
    assert "the Spark operator is there" in said


async def test_helm_test_fails_where_nobody_serves_metrics(install: Callable[..., Release]) -> None:
    release = install("broken", leaderElection={"enabled": False})
    with pytest.raises(HelmRefused):
        await asyncio.to_thread(release.helm_while_the_cluster_works, "test")
    assert "error: nobody" not in release.containers["broken-test"].log.read_text()
    assert "metrics does not answer" in release.containers["broken-test"].log.read_text()


async def test_an_uninstall_leaves_streams_state_and_jobs_and_no_finalizer(
    install: Callable[..., Release], guarded: Guarded, team: Actors
) -> None:
    release = install("removed", watchNamespaces=[team.namespace])
    release.start()
    await team.create_pipeline()
    await reaches_ready(team)
    deployment = await team.deployment()
    assert (await team.pipeline())["metadata"]["finalizers"] == [FINALIZER]

    await asyncio.to_thread(release.helm_while_the_cluster_works, "uninstall")

    assert (await team.pipeline())["metadata"].get("finalizers", []) == []
    assert (await team.deployment())["metadata"]["uid"] == deployment["metadata"]["uid"]
    assert (await team.deployment())["spec"]["job"] == deployment["spec"]["job"]
    kinds = "serviceaccount,role,rolebinding,configmap"
    left = guarded.plane.kubectl("get", kinds, f"--namespace={team.namespace}", "--output=name").split()
    assert {"serviceaccount/flink", "role.rbac.authorization.k8s.io/spark", f"configmap/{NAME}-record"} <= set(left)
    assert not [each for each in left if "removed" in each]
    here = guarded.plane.kubectl(
        "get", "all,serviceaccount,role,rolebinding", f"--namespace={release.namespace}", "--output=name"
    )
    assert here.split() == []
    assert "removed" not in guarded.plane.kubectl("get", "clusterrole,clusterrolebinding", "--output=name")
    uid = (await team.pipeline())["metadata"]["uid"]
    await team.cluster.delete(LAKEHOUSE_PIPELINE, team.namespace, NAME, uid)

    async def is_gone() -> bool:
        return await team.cluster.list_labelled(LAKEHOUSE_PIPELINE, team.namespace, {}) == []

    await eventually(is_gone)


async def test_a_release_that_is_installed_again_goes_on_where_the_last_one_stopped(
    install: Callable[..., Release], team: Actors
) -> None:
    release = install("again", jobs={"namespaces": [team.namespace]})
    release.start()
    await team.create_pipeline()
    await reaches_ready(team)
    deployment = await team.deployment()
    await asyncio.to_thread(release.helm_while_the_cluster_works, "uninstall")
    release.containers.clear()

    release.helm("install")
    release.start()

    async def is_held() -> bool:
        return (await team.pipeline())["metadata"].get("finalizers") == [FINALIZER]

    await eventually(is_held)
    await reaches_ready(team)
    assert (await team.deployment())["metadata"]["uid"] == deployment["metadata"]["uid"]


async def test_an_upgrade_brings_the_crds_up_to_date_and_keeps_what_is_of_their_kinds(
    install: Callable[..., Release], guarded: Guarded, team: Actors, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(CHART, old)
    file = old / "files" / "crds" / "lakehousepipelines.lakehouse.dev.yaml"
    name = "    - lhp\n"
    assert name in file.read_text()
    file.write_text(file.read_text().replace(name, "    - oldname\n"))
    release = install("upgraded")
    release.helm("upgrade", chart=old)
    await team.create_pipeline()
    uid = (await team.pipeline())["metadata"]["uid"]
    assert short_names(guarded) == ["oldname"]

    release.helm("upgrade", replicas=2)

    assert short_names(guarded) == ["lhp"]
    assert (await team.pipeline())["metadata"]["uid"] == uid


def short_names(guarded: Guarded) -> list[str]:
    crd = json.loads(guarded.plane.kubectl("get", "crd", "lakehousepipelines.lakehouse.dev", "--output=json"))
    names: list[str] = crd["spec"]["names"]["shortNames"]
    return names


async def test_the_sample_is_installed_and_removed_with_helm(
    install: Callable[..., Release], guarded: Guarded, team: Actors
) -> None:
    install("for-the-sample")
    place = [f"--namespace={team.namespace}", f"--kubeconfig={guarded.plane.kubeconfig}"]
    helm("install", "roman-numerals", str(SAMPLE), *place, values={"spec": {"source": {"topic": "mine"}}})
    found = await team.cluster.read(LAKEHOUSE_PIPELINE, team.namespace, "roman-numerals")
    assert found["spec"]["source"]["topic"] == "mine"
    helm("uninstall", "roman-numerals", *place)
    assert await team.cluster.list_labelled(LAKEHOUSE_PIPELINE, team.namespace, {}) == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, ["every namespace", "--set 'jobs.namespaces={data}'", "observation.allowedEndpoints is empty"]),
        ({"jobs": {"namespaces": ["team-a"]}}, ["kubectl apply -n team-a", "helm test noted"]),
        ({"uninstall": {"releaseFinalizers": False}}, ["lakehouse operator release"]),
    ],
    ids=["nowhere to run jobs", "jobs in a namespace", "without the hook"],
)
def test_the_notes_say_the_next_step(guarded: Guarded, values: dict[str, Any], said: list[str]) -> None:
    place = [f"--kubeconfig={guarded.plane.kubeconfig}", "--dry-run=server", "--take-ownership"]
    notes = helm("install", "noted", str(CHART), *place, values=values).split("NOTES:")[1]
    assert [each for each in said if each not in notes] == []


async def test_an_uninstall_that_takes_the_crds_leaves_nothing_that_waits(
    install: Callable[..., Release], guarded: Guarded, team: Actors
) -> None:
    release = install("all-gone", crds={"keep": False}, jobs={"keep": False, "namespaces": [team.namespace]})
    release.start()
    await team.create_pipeline()
    await reaches_ready(team)

    await asyncio.to_thread(release.helm_while_the_cluster_works, "uninstall")

    async def are_gone() -> bool:
        return "lakehouse.dev" not in await asyncio.to_thread(guarded.plane.kubectl, "get", "crd", "--output=name")

    await eventually(are_gone)
    assert await team.deployment()
    jobs = guarded.plane.kubectl("get", "serviceaccount,role", f"--namespace={team.namespace}", "--output=name")
    assert "flink" not in jobs
    assert "spark" not in jobs

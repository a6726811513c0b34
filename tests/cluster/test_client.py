"""The real client when things go wrong: what it tries again, what it reports, and that nothing is done twice."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.worlds import deployment
from control_plane.api_server import ControlPlane
from control_plane.faulty_proxy import (
    FaultyProxy,
    after,
    answer_json,
    answer_text,
    answer_with,
    drop,
    faulty_proxy,
    hang,
    lose_the_answer,
    unharmed,
    write_kubeconfig,
)
from lakehouse_operator.cluster.client import KubernetesCluster
from lakehouse_operator.cluster.errors import (
    ClusterError,
    Conflict,
    NotFound,
    NotInstalled,
    Refused,
    Throttled,
    Unavailable,
)
from lakehouse_operator.cluster.kinds import (
    CONFIG_MAP,
    FLINK_DEPLOYMENT,
    LAKEHOUSE_PIPELINE,
    SECRET,
    SPARK_APPLICATION,
    Kind,
)
from lakehouse_operator.cluster.rest import Login, Patience
from lakehouse_operator.planning.observed import Capabilities

IMPATIENT = Patience(connect=10.0, answer=20.0, attempts=4, first_pause=0.01, longest_pause=2.0)
NOT_THERE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def proxy(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[FaultyProxy]:
    async with faulty_proxy(control_plane, tmp_path) as proxy:
        yield proxy


@pytest.fixture
async def cluster(proxy: FaultyProxy) -> AsyncIterator[KubernetesCluster]:
    async with KubernetesCluster(Login(proxy.kubeconfig), patience=IMPATIENT, page=2) as cluster:
        yield cluster


class TestTryingAgain:
    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    async def test_a_failing_server_is_asked_again(
        self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str, status: int
    ) -> None:
        proxy.then(answer_with(status), answer_with(status))
        await cluster.apply(deployment(namespace))
        assert len(proxy.seen) == 3

    async def test_a_server_that_keeps_failing_is_unavailable(
        self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str
    ) -> None:
        proxy.then(*[answer_with(503, "etcd has no leader")] * 4)
        with pytest.raises(Unavailable, match="etcd has no leader"):
            await cluster.read(FLINK_DEPLOYMENT, namespace, "bronze")
        assert len(proxy.seen) == IMPATIENT.attempts

    async def test_a_busy_server_gets_the_pause_that_it_asks_for(
        self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str
    ) -> None:
        proxy.then(answer_with(429, retry_after="1"))
        started = time.monotonic()
        await cluster.apply(deployment(namespace))
        assert time.monotonic() - started >= 1.0
        assert len(proxy.seen) == 2

    async def test_a_long_pause_is_for_the_caller_to_make(
        self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str
    ) -> None:
        proxy.then(answer_with(429, "too many requests", retry_after="60"))
        with pytest.raises(Throttled, match="too many requests") as caught:
            await cluster.apply(deployment(namespace))
        assert caught.value.retry_after == 60.0
        assert len(proxy.seen) == 1

    async def test_a_busy_server_that_stays_busy_is_reported(
        self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str
    ) -> None:
        proxy.then(*[answer_with(429, retry_after="0")] * 4)
        with pytest.raises(Throttled):
            await cluster.apply(deployment(namespace))

    @pytest.mark.parametrize("header", ["soon", "-3", None])
    async def test_a_strange_pause_is_survived(
        self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str, header: str | None
    ) -> None:
        proxy.then(answer_with(429, retry_after=header))
        await cluster.apply(deployment(namespace))

    async def test_a_cut_connection_is_made_again(
        self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str
    ) -> None:
        proxy.then(drop, drop)
        applied = await cluster.apply(deployment(namespace))
        assert applied["spec"]["flinkVersion"] == "v1_20"

    async def test_a_server_that_hangs_is_given_up(self, proxy: FaultyProxy, namespace: str) -> None:
        proxy.then(*[hang] * 2)
        started = time.monotonic()
        patience = replace(IMPATIENT, connect=0.5, answer=0.5, attempts=2)
        async with KubernetesCluster(Login(proxy.kubeconfig), patience=patience) as cluster:
            with pytest.raises(Unavailable, match="did not answer within 1 s"):
                await cluster.read(FLINK_DEPLOYMENT, namespace, "bronze")
        assert time.monotonic() - started >= 2.0

    async def test_nobody_listening_is_unavailable(self, tmp_path: Path, unused_tcp_port: int) -> None:
        kubeconfig = tmp_path / "kubeconfig"
        write_kubeconfig(kubeconfig, f"http://127.0.0.1:{unused_tcp_port}", "token")
        async with KubernetesCluster(Login(kubeconfig), patience=IMPATIENT) as cluster:
            with pytest.raises(Unavailable, match="can't be reached"):
                await cluster.read(FLINK_DEPLOYMENT, "default", "bronze")

    async def test_something_that_is_no_api_server_is_unavailable(
        self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str
    ) -> None:
        for status in (200, 404, 502):
            proxy.then(*[answer_text(status, "<html>welcome to the airport</html>")] * 4)
            with pytest.raises(Unavailable, match="airport"):
                await cluster.read(FLINK_DEPLOYMENT, namespace, "bronze")

    async def test_what_is_refused_is_asked_once(
        self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str
    ) -> None:
        with pytest.raises(Refused, match="flinkVersion"):
            await cluster.apply(deployment(namespace, flinkVersion="v0_1"))
        with pytest.raises(NotFound):
            await cluster.read(FLINK_DEPLOYMENT, namespace, "nothing")
        assert len(proxy.seen) == 2

    async def test_not_too_many_requests_are_under_way_at_once(self, proxy: FaultyProxy, namespace: str) -> None:
        waiting = highest = 0

        async def slowly(request: Any, really: Any) -> Any:
            nonlocal waiting, highest
            waiting += 1
            highest = max(highest, waiting)
            await asyncio.sleep(0.05)
            waiting -= 1
            return await really()

        proxy.then(*[slowly] * 20)
        patience = replace(IMPATIENT, connections=4)
        async with KubernetesCluster(Login(proxy.kubeconfig), patience=patience) as cluster:
            await asyncio.gather(*(cluster.list_labelled(FLINK_DEPLOYMENT, namespace, {}) for _ in range(20)))
        assert highest == 4


class TestLostAnswers:
    async def test_a_run_is_created_once(self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str) -> None:
        proxy.then(lose_the_answer)
        created = await cluster.create_once(deployment(namespace, "run"))
        # The creator can't know that it was itself; it compares owner and spec, as with any run that is there.
        assert not created.is_new
        assert [method for method, _ in proxy.seen] == ["POST", "POST", "GET"]
        assert len(await cluster.list_labelled(FLINK_DEPLOYMENT, namespace, {})) == 1

    async def test_an_apply_is_one_write(self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str) -> None:
        proxy.then(lose_the_answer)
        applied = await cluster.apply(deployment(namespace, image="lakehouse/flink:1"))
        assert applied["metadata"]["generation"] == 1

    async def test_a_deletion_is_done(self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str) -> None:
        uid = (await cluster.apply(deployment(namespace)))["metadata"]["uid"]
        proxy.then(lose_the_answer)
        await cluster.delete(FLINK_DEPLOYMENT, namespace, "bronze", uid)
        with pytest.raises(NotFound):
            await cluster.read(FLINK_DEPLOYMENT, namespace, "bronze")

    async def test_a_finalizer_is_added_once(
        self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str
    ) -> None:
        uid = (await cluster.apply(deployment(namespace)))["metadata"]["uid"]
        proxy.then(unharmed, lose_the_answer)
        await cluster.add_finalizer(FLINK_DEPLOYMENT, namespace, "bronze", uid=uid, finalizer="lakehouse.dev/a")
        seen = await cluster.read(FLINK_DEPLOYMENT, namespace, "bronze")
        assert seen["metadata"]["finalizers"] == ["lakehouse.dev/a"]

    async def test_a_status_is_written(self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str) -> None:
        uid = (await cluster.apply(deployment(namespace)))["metadata"]["uid"]
        proxy.then(lose_the_answer)
        after = await cluster.write_status(FLINK_DEPLOYMENT, namespace, "bronze", uid=uid, status={"error": "x"})
        assert after["status"] == {"error": "x"}


class TestRaces:
    async def test_a_run_that_vanishes_before_it_is_read_is_created(
        self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str
    ) -> None:
        old = await cluster.apply(deployment(namespace, "run"))

        async def vanish() -> None:
            await cluster.delete(FLINK_DEPLOYMENT, namespace, "run", old["metadata"]["uid"])

        proxy.then(unharmed, after(vanish))
        created = await cluster.create_once(deployment(namespace, "run"))
        assert created.is_new
        assert created.resource["metadata"]["uid"] != old["metadata"]["uid"]

    async def test_a_finalizer_goes_beside_one_that_came_in_between(
        self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str
    ) -> None:
        uid = (await cluster.apply(deployment(namespace)))["metadata"]["uid"]

        async def another() -> None:
            await cluster.add_finalizer(FLINK_DEPLOYMENT, namespace, "bronze", uid=uid, finalizer="example.org/theirs")

        proxy.then(unharmed, after(another))
        await cluster.add_finalizer(FLINK_DEPLOYMENT, namespace, "bronze", uid=uid, finalizer="lakehouse.dev/a")
        seen = await cluster.read(FLINK_DEPLOYMENT, namespace, "bronze")
        assert seen["metadata"]["finalizers"] == ["example.org/theirs", "lakehouse.dev/a"]

    async def test_a_list_that_expires_between_its_pages_is_read_again(
        self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str
    ) -> None:
        for name in ("a", "b", "c"):
            await cluster.apply(deployment(namespace, name))
        proxy.seen.clear()
        proxy.then(unharmed, answer_with(410, reason="Expired"))
        found = await cluster.list_labelled(FLINK_DEPLOYMENT, namespace, {})
        assert [each["metadata"]["name"] for each in found] == ["a", "b", "c"]
        assert len(proxy.seen) == 4

    async def test_a_list_that_always_expires_is_given_up(
        self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str
    ) -> None:
        proxy.then(*[answer_with(410, reason="Expired")] * 5)
        with pytest.raises(Conflict):
            await cluster.list_labelled(FLINK_DEPLOYMENT, namespace, {})


class TestRefusals:
    async def test_an_unknown_field_is_refused_by_its_name(self, cluster: KubernetesCluster, namespace: str) -> None:
        with pytest.raises(Refused, match=r"spec\.flinkVersoin"):
            await cluster.apply(deployment(namespace, flinkVersoin="v1_20"))
        with pytest.raises(Refused, match=r"spec\.flinkVersoin"):
            await cluster.create_once(deployment(namespace, flinkVersoin="v1_20"))

    async def test_a_value_of_the_wrong_type_is_refused(self, cluster: KubernetesCluster, namespace: str) -> None:
        with pytest.raises(Refused, match=r"spec\.image"):
            await cluster.apply(deployment(namespace, image=1))

    async def test_an_unknown_field_of_a_status_is_refused(self, cluster: KubernetesCluster, namespace: str) -> None:
        large = deployment(namespace, flinkConfiguration={"a": "x" * 10_000})
        uid = (await cluster.apply(large))["metadata"]["uid"]
        with pytest.raises(Refused, match=r"status\.lifecycel") as caught:
            await cluster.write_status(FLINK_DEPLOYMENT, namespace, "bronze", uid=uid, status={"lifecycel": "x"})
        # The server's message holds the whole object, and the field's name behind it.
        assert len(str(caught.value)) <= 2000

    @pytest.mark.parametrize("name", ["..", "../secrets/x", "a/b", "a?watch=1", "A", "", "a%2fb", "a\n"])
    async def test_a_name_that_leads_elsewhere_is_refused_unasked(
        self, cluster: KubernetesCluster, proxy: FaultyProxy, name: str
    ) -> None:
        with pytest.raises(Refused):
            await cluster.read(SECRET, "default", name)
        with pytest.raises(Refused):
            await cluster.read(SECRET, name, "secret")
        assert proxy.seen == []

    async def test_a_label_that_changes_the_question_is_refused_unasked(
        self, cluster: KubernetesCluster, proxy: FaultyProxy
    ) -> None:
        with pytest.raises(Refused):
            await cluster.list_labelled(SECRET, "default", {"lakehouse.dev/pipeline": "a,b!=c"})
        assert proxy.seen == []

    async def test_a_kind_that_is_not_installed_is_not_an_absent_object(
        self, cluster: KubernetesCluster, proxy: FaultyProxy
    ) -> None:
        nowhere = Kind("nowhere.example", "v1", "Thing", "things")
        with pytest.raises(NotInstalled):
            await cluster.read(nowhere, "default", "thing")
        with pytest.raises(NotInstalled):
            await cluster.list_labelled(nowhere, "default", {})
        assert len(proxy.seen) == 2

    async def test_missing_rights_are_named(self, control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
        control_plane.kubectl("create", "serviceaccount", "nobody", f"--namespace={namespace}")
        token = control_plane.kubectl("create", "token", "nobody", f"--namespace={namespace}").strip()
        async with faulty_proxy(control_plane, tmp_path) as proxy:
            write_kubeconfig(proxy.kubeconfig, proxy.url, token)
            async with KubernetesCluster(Login(proxy.kubeconfig), patience=IMPATIENT) as cluster:
                with pytest.raises(Refused, match='cannot get resource "flinkdeployments"'):
                    await cluster.read(FLINK_DEPLOYMENT, namespace, "bronze")
                # What is installed may be read by everybody who has a name.
                assert (await cluster.capabilities()).flink


class TestLogin:
    async def test_a_token_that_has_run_out_is_replaced(self, control_plane: ControlPlane, tmp_path: Path) -> None:
        async with faulty_proxy(control_plane, tmp_path) as proxy:
            write_kubeconfig(proxy.kubeconfig, proxy.url, "run-out")
            async with KubernetesCluster(Login(proxy.kubeconfig), patience=IMPATIENT) as cluster:

                async def renew() -> None:
                    write_kubeconfig(proxy.kubeconfig, proxy.url, control_plane.token)

                proxy.then(after(renew))
                await cluster.list_labelled(CONFIG_MAP, "default", {})
                assert len(proxy.seen) == 2

    async def test_who_is_not_known_is_refused(self, control_plane: ControlPlane, tmp_path: Path) -> None:
        async with faulty_proxy(control_plane, tmp_path) as proxy:
            write_kubeconfig(proxy.kubeconfig, proxy.url, "made-up")
            async with KubernetesCluster(Login(proxy.kubeconfig), patience=IMPATIENT) as cluster:
                with pytest.raises(Refused, match="Unauthorized"):
                    await cluster.list_labelled(CONFIG_MAP, "default", {})
                assert len(proxy.seen) == 2

    async def test_many_requests_at_once_survive_a_new_login(
        self, cluster: KubernetesCluster, proxy: FaultyProxy, namespace: str
    ) -> None:
        async def slowly(request: Any, really: Any) -> Any:
            await asyncio.sleep(0.5)
            return await really()

        # Refused while others are still under way, which finish in peace on the old connections.
        refused = answer_with(401)
        proxy.then(slowly, refused, slowly, refused, refused, *[slowly] * 7)
        reads = [cluster.list_labelled(FLINK_DEPLOYMENT, namespace, {}) for _ in range(12)]
        assert await asyncio.gather(*reads) == [[]] * 12
        assert len(proxy.seen) == 15

    async def test_the_proxy_of_the_environment_is_used(
        self, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kubeconfig = tmp_path / "elsewhere"
        write_kubeconfig(kubeconfig, "http://kubernetes.invalid:6443", "token")
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        proxy.then(answer_with(403, "greetings from the proxy"))
        async with KubernetesCluster(Login(kubeconfig), patience=IMPATIENT) as cluster:
            with pytest.raises(Refused, match="greetings from the proxy"):
                await cluster.read(CONFIG_MAP, "default", "a")

        proxy.seen.clear()
        monkeypatch.setenv("no_proxy", "kubernetes.invalid")
        async with KubernetesCluster(Login(kubeconfig), patience=IMPATIENT) as cluster:
            with pytest.raises(Unavailable):
                await cluster.read(CONFIG_MAP, "default", "a")
        assert proxy.seen == []

    async def test_a_missing_kubeconfig_is_named(self, tmp_path: Path) -> None:
        async with KubernetesCluster(Login(tmp_path / "nothing")) as cluster:
            with pytest.raises(Refused, match="nothing"):
                await cluster.read(CONFIG_MAP, "default", "a")

    async def test_a_context_that_is_not_there_is_named(self, control_plane: ControlPlane) -> None:
        async with KubernetesCluster(Login(control_plane.kubeconfig, context="production")) as cluster:
            with pytest.raises(Refused, match="production"):
                await cluster.read(CONFIG_MAP, "default", "a")

    async def test_the_kubeconfig_of_the_environment_is_used(
        self, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
        async with KubernetesCluster() as cluster:
            await cluster.list_labelled(CONFIG_MAP, "default", {})


class TestCapabilities:
    @pytest.fixture
    def plane(self, bare_control_plane: ControlPlane) -> Iterator[ControlPlane]:
        yield bare_control_plane
        bare_control_plane.remove_crds(*sorted(bare_control_plane.crds.glob("*.yaml")))

    @staticmethod
    async def _eventually(
        cluster: KubernetesCluster, *, flink: bool, spark: bool, snapshots: bool = False
    ) -> Capabilities:
        async with asyncio.timeout(30):
            while True:
                # The server publishes the schema of a new CRD a moment after it serves it.
                with contextlib.suppress(Unavailable):
                    seen = await cluster.capabilities()
                    if (seen.flink, seen.spark_applications, seen.state_snapshots) == (flink, spark, snapshots):
                        return seen
                await asyncio.sleep(0.05)

    async def test_operators_may_come_go_and_be_exchanged(self, plane: ControlPlane) -> None:
        async with KubernetesCluster(Login(plane.kubeconfig), capabilities_age=0) as cluster:
            nothing = await cluster.capabilities()
            assert not nothing.flink
            assert not nothing.savepoint_redeploy
            assert not nothing.state_snapshots
            assert not nothing.spark_applications
            with pytest.raises(NotInstalled):
                await cluster.read(LAKEHOUSE_PIPELINE, "default", "roman")
            with pytest.raises(NotInstalled):
                await cluster.list_labelled(SPARK_APPLICATION, "default", {})

            plane.install_operators(flink="1.7.0", spark=None)
            old = await self._eventually(cluster, flink=True, spark=False)
            assert {"v1_18", "v1_19"} <= old.flink_versions
            assert "v1_20" not in old.flink_versions
            assert not old.savepoint_redeploy
            assert not old.state_snapshots

            plane.install_operators(flink="1.10.0", spark="2.4.0")
            new = await self._eventually(cluster, flink=True, spark=True, snapshots=True)
            assert {"v1_18", "v1_20"} <= new.flink_versions
            assert new.savepoint_redeploy

            plane.remove_crds(plane.crds / "flink-1.10.0.yaml")
            await self._eventually(cluster, flink=False, spark=True)

    async def test_at_rest_they_cost_nothing(self, control_plane: ControlPlane, tmp_path: Path) -> None:
        async with faulty_proxy(control_plane, tmp_path) as proxy:
            async with KubernetesCluster(Login(proxy.kubeconfig)) as cluster:
                await asyncio.gather(*(cluster.capabilities() for _ in range(10)))
                assert len(proxy.seen) == 3
            proxy.seen.clear()
            async with KubernetesCluster(Login(proxy.kubeconfig), capabilities_age=0) as cluster:
                for _ in range(5):
                    await cluster.capabilities()
                # Once each schema, and every time only the index.
                assert len(proxy.seen) == 7

    async def test_not_knowing_is_not_an_empty_answer(self, cluster: KubernetesCluster, proxy: FaultyProxy) -> None:
        proxy.then(unharmed, *[answer_with(503)] * 4)
        with pytest.raises(ClusterError):
            await cluster.capabilities()
        assert (await cluster.capabilities()).flink

    async def test_a_schema_that_is_not_published_yet_is_no_missing_operator(self, proxy: FaultyProxy) -> None:
        # As an API server that has just started answers: it serves the kinds, and its index does not hold them yet.
        proxy.then(answer_json({"paths": {}}))
        async with KubernetesCluster(Login(proxy.kubeconfig), patience=IMPATIENT, capabilities_age=0) as cluster:
            with pytest.raises(Unavailable, match="has not published the schema of flinkdeployments"):
                await cluster.capabilities()
            assert (await cluster.capabilities()).flink

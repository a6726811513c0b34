"""Under load, on real pods: changes, crashes and kills of the stream, and each time the proof that nothing is wrong."""

import json

import pytest

from e2e.life import Life
from e2e.platform import KEYS, LOGIN, SERVICES, SYSTEM, TENANT
from e2e.reference import NO_SUCH_IMAGE

pytestmark = pytest.mark.timeout(900)
FLINK = {"app": "roman-numerals-bronze"}


def _pod(life: Life, component: str) -> str:
    return life.platform.cluster.pods(TENANT, **FLINK, component=component)[0]


def test_events_arrive_and_every_layer_is_right(well: Life) -> None:
    well.goes_on()
    well.judged()
    well.goes_on()


def test_a_changed_setting_is_a_savepoint_upgrade(well: Life) -> None:
    before, pipeline = well.pipeline.job, well.pipeline
    pipeline.change(restart={"attempts": 3, "delay": "3s"})
    well.platform.cluster.until(
        lambda: pipeline.job not in (None, before), "another job runs", seconds=300, tell=pipeline.tell
    )
    point = pipeline.points[0]
    assert point["trigger"] == "upgrade"
    assert point["path"].startswith("s3://lakehouse/flink/savepoints/")
    assert point["proven"] is True
    assert point["bronzeSnapshot"]
    child = well.platform.cluster.get(TENANT, "flinkdeployment", "roman-numerals-bronze")
    assert child is not None
    assert child["spec"]["job"]["initialSavepointPath"] == point["path"]
    pipeline.until_ready()
    well.goes_on()
    well.proven()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"bronze": {"image": NO_SUCH_IMAGE}}, id="an image that cannot be had"),
        pytest.param(
            {"source": {"properties": {"interceptor.classes": "no.such.Interceptor"}}}, id="a job that crashes at once"
        ),
    ],
)
def test_a_change_that_does_not_run_is_rolled_back(well: Life, change: dict[str, dict[str, object]]) -> None:
    good = well.pipeline.stream["revision"]
    well.pipeline.patch(change)
    well.platform.cluster.until(
        lambda: well.pipeline.condition("Stalled").get("reason") == "RolledBack",
        "it is rolled back",
        seconds=420,
        tell=well.pipeline.tell,
    )
    well.platform.cluster.until(
        lambda: well.pipeline.job, "the last good job runs", seconds=300, tell=well.pipeline.tell
    )
    assert well.pipeline.stream["revision"] == good
    well.goes_on()
    well.proven()


@pytest.mark.parametrize("component", ["taskmanager", "jobmanager"])
def test_a_killed_flink_pod_costs_nothing(well: Life, component: str) -> None:
    killed = _pod(well, component)
    well.platform.cluster.kill(TENANT, killed)
    well.goes_on()
    assert _pod(well, component) != killed
    well.proven()


def test_a_killed_operator_pod_costs_nothing_and_its_successor_goes_on(well: Life) -> None:
    cluster = well.platform.cluster
    labels = {"app.kubernetes.io/instance": "lakehouse-operator", "app.kubernetes.io/component": "operator"}
    job = well.pipeline.job
    [killed] = cluster.pods(SYSTEM, **labels)
    cluster.kill(SYSTEM, killed)
    well.pipeline.change(recoveryPoints={"keep": 4})
    generation = well.pipeline.seen["metadata"]["generation"]
    cluster.until(
        lambda: well.pipeline.status.get("observedGeneration") == generation,
        "the successor has seen the change",
        seconds=180,
        tell=well.pipeline.tell,
    )
    assert well.pipeline.job == job
    well.goes_on()
    well.proven()


def test_a_killed_broker_costs_nothing(well: Life) -> None:
    cluster = well.platform.cluster
    [pod] = cluster.find(SERVICES, "pods", {"app": "kafka"})
    before = pod["status"]["containerStatuses"][0]["restartCount"]
    cluster.exec(SERVICES, "kafka-0", "kafka", "/opt/testbed/kill-kafka")

    def is_back() -> bool:
        [pod] = cluster.find(SERVICES, "pods", {"app": "kafka"})
        [container] = pod["status"]["containerStatuses"]
        return container["restartCount"] > before and container["ready"]

    cluster.until(is_back, "the broker is back", seconds=120)
    well.goes_on()
    well.proven()


def test_suspended_it_rests_and_resumed_it_goes_on(well: Life) -> None:
    cluster = well.platform.cluster
    well.pipeline.lakehouse("suspend", "roman-numerals")
    well.pipeline.until_state("Suspended")
    assert well.pipeline.points[0]["trigger"] == "suspend"
    cluster.until(
        lambda: not cluster.pods(TENANT, **FLINK, component="taskmanager"), "no TaskManager is left", seconds=120
    )
    well.pipeline.lakehouse("resume", "roman-numerals")
    well.pipeline.until_ready()
    well.goes_on()
    well.proven()


def test_a_rewind_leaves_bronze_exactly_right(well: Life) -> None:
    pipeline = well.pipeline
    taken = {point["name"] for point in pipeline.points}
    pipeline.lakehouse("savepoint", pipeline.name)

    def new() -> str | None:
        fresh = [
            p["name"] for p in pipeline.points if p["name"] not in taken and p["trigger"] == "manual" and p["proven"]
        ]
        return fresh[0] if fresh else None

    point = well.platform.cluster.until(new, "a point that was asked for", seconds=180, tell=pipeline.tell)
    well.goes_on()
    before = pipeline.job
    pipeline.lakehouse("restore", pipeline.name, point)
    well.platform.cluster.until(
        lambda: pipeline.job not in (None, before), "it goes on from the point", seconds=300, tell=pipeline.tell
    )
    well.goes_on()
    well.proven()
    # Of events that are sent twice silver may hold the copy that bronze has lost: those days are told, and renewed.
    for days in pipeline.status.get("stale", []):
        well.backfilled(days["first"], days["last"])
    well.judged()


def test_status_metrics_and_events_hold_no_secret(well: Life) -> None:
    cluster = well.platform.cluster
    seen = json.dumps([cluster.find(TENANT, kind) for kind in ("lhp", "lhr", "flinkdeployments", "sparkapplications")])
    seen += json.dumps([cluster.find(TENANT, kind) for kind in ("configmaps", "events")])
    [operator] = cluster.pods(SYSTEM, **{"app.kubernetes.io/instance": "lakehouse-operator"})
    seen += cluster.kubectl("logs", operator, "-n", SYSTEM)
    for secret in (KEYS["AWS_SECRET_ACCESS_KEY"], LOGIN["password"]):
        assert secret not in seen

"""Under load, on real pods: changes, crashes and kills of the stream, and each time the proof that nothing is wrong.

Where the stream is waited for, a Spark run is under way that has its own trouble: what fails is handled by its class.
"""

import json
import subprocess

import pytest
import yaml

from e2e.life import Life
from e2e.platform import CREDENTIAL, KEYS, LOGIN, PODS, SERVICES, SYSTEM, TENANT
from e2e.reference import NO_SUCH_IMAGE

pytestmark = [pytest.mark.timeout(2400), pytest.mark.usefixtures("second")]
FLINK = {"app": "roman-numerals-bronze"}
EATERS = "import os, signal\nfor _ in range(40):\n    if not os.fork():\n        b'x' * (64 << 20); signal.pause()\n"
"""Forty programs that take 64 MiB each. What is then killed is the largest: the TaskManager itself."""


def _pod(life: Life, component: str) -> str | None:
    return next(iter(life.platform.cluster.pods(TENANT, **FLINK, component=component)), None)


def test_events_arrive_and_every_layer_is_right(well: Life) -> None:
    well.judged()
    layers = well.pipeline.status["layers"]
    assert layers["silver"]["lastRun"]["phase"] == layers["gold"]["lastRun"]["phase"] == "Succeeded"
    told = well.platform.metrics()
    lag = f'lakehouse_stream_lag_records{{namespace="{TENANT}",pipeline="roman-numerals"}}'
    assert [line for line in told.splitlines() if line.startswith(lag)], told


def test_a_changed_setting_is_a_savepoint_upgrade(well: Life) -> None:
    before, pipeline, folder = well.pipeline.stream["revision"], well.pipeline, well.platform.folder
    new = json.loads(json.dumps(well.document))
    new["spec"]["bronze"]["restart"] = {"attempts": 4, "delay": "3s"}
    for name, document in (("pipeline.yaml", well.document), ("new.yaml", new)):
        (folder / name).write_text(yaml.safe_dump(document))
    files = {
        f"{option} {name}": f"{option} '{folder / name}'"
        for option, name in (("-f", "new.yaml"), ("--from", "pipeline.yaml"))
    }
    told = well.platform.documented("install.md", "A change of a pipeline", files)
    assert "restart" in told
    # Not by the job: the Flink operator 1.7 gives its id to the next one of the same FlinkDeployment.
    well.platform.cluster.until(
        lambda: pipeline.job and pipeline.stream["revision"] != before,
        "another revision runs",
        seconds=300,
        tell=pipeline.tell,
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


def test_an_image_that_cannot_be_had_is_rolled_back_and_a_killed_driver_is_tried_again(well: Life) -> None:
    good, run = well.pipeline.stream["revision"], well.pipeline.begin("silver")
    well.pipeline.change(image=NO_SUCH_IMAGE)
    driver = well.platform.cluster.until(
        lambda: well.pipeline.driver(run), "the driver runs", seconds=240, tell=well.pipeline.tell
    )
    well.platform.cluster.kill(TENANT, driver)
    outcome = well.pipeline.outcome(run)
    assert outcome["phase"] == "Succeeded", outcome
    assert outcome["attempts"][0]["failureClass"] == "Infrastructure"
    well.rolled_back_to(good)


def test_a_job_that_crashes_at_once_is_rolled_back_and_a_driver_gets_the_memory_that_it_lacks(well: Life) -> None:
    good = well.pipeline.stream["revision"]
    well.pipeline.patch(
        {
            "source": {"properties": {"interceptor.classes": "no.such.Interceptor"}},
            "silver": {
                "driver": {"memory": "480Mi", "memoryOverhead": "16Mi"},
                # What the heap has from the beginning is taken from the machine at once; half as much again suffices.
                "sparkConf": {"spark.driver.extraJavaOptions": "-Xms320m -XX:+AlwaysPreTouch"},
            },
        }
    )
    well.pipeline.until_seen()
    run = well.pipeline.begin("silver")
    well.rolled_back_to(good)
    outcome = well.pipeline.outcome(run, seconds=600)
    assert outcome["phase"] == "Succeeded", outcome
    assert outcome["attempts"][0]["failureClass"] == "OutOfMemory"


def test_a_killed_taskmanager_costs_nothing_though_maintenance_rewrites_the_table_meanwhile(well: Life) -> None:
    killed, run = _pod(well, "taskmanager"), well.pipeline.begin("maintenance")
    assert killed
    well.platform.cluster.kill(TENANT, killed)
    well.goes_on()
    assert _pod(well, "taskmanager") not in (None, killed)
    outcome = well.pipeline.outcome(run)
    assert outcome["phase"] == "Succeeded", outcome
    well.proven()


def test_a_taskmanager_that_is_out_of_memory_costs_nothing(well: Life) -> None:
    cluster, killed = well.platform.cluster, _pod(well, "taskmanager")
    assert killed
    look = [
        "get",
        "pod",
        killed,
        "-n",
        TENANT,
        "--watch",
        "--output=jsonpath={.status.containerStatuses[0].state}{'\\n'}",
    ]
    with subprocess.Popen(
        [cluster.program, *look], env=cluster.environment, stdout=subprocess.PIPE, text=True
    ) as watch:
        try:
            # It ends with the container.
            cluster.attempt(TENANT, killed, "flink-main-container", "python3", "-c", EATERS)
            cluster.until(lambda: killed not in cluster.pods(TENANT), "the TaskManager is replaced", seconds=120)
        finally:
            watch.kill()
        assert watch.stdout is not None
        assert "OOMKilled" in watch.stdout.read()
    well.goes_on()
    well.proven()


def test_a_killed_jobmanager_costs_nothing(well: Life) -> None:
    killed = _pod(well, "jobmanager")
    assert killed
    well.platform.cluster.kill(TENANT, killed)
    well.goes_on()
    assert _pod(well, "jobmanager") not in (None, killed)
    well.proven()


def test_a_killed_operator_pod_costs_nothing_and_its_successor_goes_on(well: Life) -> None:
    job, [killed] = well.pipeline.job, well.platform.cluster.pods(SYSTEM, **PODS)
    well.platform.cluster.kill(SYSTEM, killed)
    well.pipeline.change(recoveryPoints={"keep": 4})
    well.pipeline.until_seen()
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


def test_suspended_it_rests_and_resumed_it_goes_on_and_bad_data_fails_a_run_at_once(well: Life) -> None:
    cluster, pipeline = well.platform.cluster, well.pipeline
    tables = json.loads(json.dumps(well.document["spec"]["silver"]["tables"]))
    tables[0]["rules"].append({"name": "nobody_is_free", "expression": "user_plan <> 'free'", "severity": "fail"})
    pipeline.patch({"silver": {"tables": tables}})
    pipeline.until_seen()
    pipeline.lakehouse("suspend", "roman-numerals")
    pipeline.until_state("Suspended")
    assert pipeline.points[0]["trigger"] == "suspend"
    cluster.until(
        lambda: not cluster.pods(TENANT, **FLINK, component="taskmanager"), "no TaskManager is left", seconds=120
    )

    run = pipeline.begin("silver")
    outcome = pipeline.outcome(run)
    assert outcome["phase"] == "Failed", outcome
    assert [attempt.get("failureClass") for attempt in outcome["attempts"]] == ["Data"]
    assert "nobody_is_free" in outcome["attempts"][0]["message"]

    def broken() -> list[tuple[str, str]]:
        seen = cluster.get(TENANT, "lhr", run) or {}
        return [(each["rule"], each["severity"]) for each in seen["status"].get("quality", {}).get("broken", [])]

    found = cluster.until(broken, "the run says which rule", seconds=60, tell=pipeline.tell)
    assert found[0] == ("nobody_is_free", "fail")
    pipeline.patch({"silver": {"tables": well.document["spec"]["silver"]["tables"]}})
    pipeline.lakehouse("resume", "roman-numerals")
    pipeline.until_ready()
    well.goes_on()
    well.proven()


def test_a_rewind_leaves_bronze_exactly_right_and_a_backfill_the_layers_above(well: Life) -> None:
    pipeline, documented = well.pipeline, well.platform.documented
    taken = {point["name"] for point in pipeline.points}
    documented("install.md", "Back to an earlier state")

    def new() -> str | None:
        fresh = [
            p["name"] for p in pipeline.points if p["name"] not in taken and p["trigger"] == "manual" and p["proven"]
        ]
        return fresh[0] if fresh else None

    point = well.platform.cluster.until(new, "a point that was asked for", seconds=180, tell=pipeline.tell)
    well.goes_on()
    # Silver has seen what is going to be discarded.
    assert pipeline.run("silver")["phase"] == "Succeeded"
    before = pipeline.job
    documented("install.md", "Back to an earlier state", {"POINT": point}, block=1)
    well.platform.cluster.until(
        lambda: pipeline.job not in (None, before), "it goes on from the point", seconds=300, tell=pipeline.tell
    )
    well.goes_on()
    documented("install.md", "Back to an earlier state", well.client.to_verify(well.document), block=2)
    stale = pipeline.status["stale"]
    assert {days["reason"] for days in stale} == {"Rewind"}
    well.backfilled(min(days["first"] for days in stale), max(days["last"] for days in stale))
    well.platform.cluster.until(
        lambda: not pipeline.status.get("stale"), "nothing is stale", seconds=60, tell=pipeline.tell
    )
    well.judged()


def test_the_commands_for_the_night_work(well: Life) -> None:
    documented = well.platform.documented
    [run, *_] = well.platform.cluster.find(TENANT, "lhr")
    told = documented("troubleshooting.md", "Troubleshooting", well.client.to_verify(well.document))
    assert "Everything is there" in told
    documented("troubleshooting.md", "The Flink job fails to start")
    documented("troubleshooting.md", "The Flink job fails to start", {"kafka": f"kafka.{SERVICES}.svc"}, block=1)
    documented("troubleshooting.md", "Checkpoints fail")
    documented("troubleshooting.md", "A Spark run fails", {"RUN": run["metadata"]["name"]})


def test_status_metrics_and_events_hold_no_secret(well: Life) -> None:
    cluster = well.platform.cluster
    seen = json.dumps([cluster.find(TENANT, kind) for kind in ("lhp", "lhr", "flinkdeployments", "sparkapplications")])
    seen += json.dumps([cluster.find(TENANT, kind) for kind in ("configmaps", "events")])
    seen += "".join(cluster.kubectl("logs", pod, "-n", SYSTEM) for pod in cluster.pods(SYSTEM, **PODS))
    seen += well.platform.metrics()
    seen += "".join(cluster.kubectl("logs", pod, "-n", TENANT, "--all-containers") for pod in cluster.pods(TENANT))
    for secret in (KEYS["AWS_SECRET_ACCESS_KEY"], LOGIN["password"], CREDENTIAL["credential"].partition(":")[2]):
        assert secret not in seen

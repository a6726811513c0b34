"""What the Spark operator does in a cluster, done on one machine: SparkApplications become real spark-submit runs.

An application runs once. What it says about its end is what the upstream operator (2.4, `SparkApplicationReconciler`)
would write, so that the planner classes failures from the same words.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lakehouse_contract.commits import ExitCode
from lakehouse_operator.cluster.kinds import SPARK_APPLICATION
from lakehouse_operator.cluster.port import Cluster, Resource
from lakehouse_operator.local import spark
from lakehouse_operator.local.cluster import system_clock
from lakehouse_operator.local.engines import Engines
from lakehouse_operator.local.processes import Processes
from lakehouse_operator.planning.image_layout import ENTRY_POINTS
from lakehouse_operator.planning.schedule import instant

_AT_A_TIME = 2
_LARGEST_HEAP_MIB = 2048
_GOING_ON = ("SUBMITTED", "RUNNING")

_log = logging.getLogger(__name__)


class LocalSparkOperator:
    """Runs the SparkApplications of a local cluster.

    Args:
        cluster: where they are.
        processes: who ends Spark's processes with this program.
        engines: where Spark is.
        directory: temporary files and results; the result of an application is `<name>.result`.
        logged: whether Spark's history server can show the runs afterwards.
    """

    def __init__(
        self, cluster: Cluster, processes: Processes, engines: Engines, directory: Path, *, logged: bool = False
    ) -> None:
        self._cluster = cluster
        self._processes = processes
        self._engines = engines
        self._directory = directory
        self._logged = logged
        self._running: dict[str, spark.SparkRun] = {}

    async def step(self) -> None:
        """Start what is new, note what has ended, end what is no longer wanted."""
        applications = await self._cluster.list_labelled(SPARK_APPLICATION, None, {})
        wanted = {each["metadata"]["uid"] for each in applications}
        for uid in self._running.keys() - wanted:
            self._running.pop(uid).process.terminate()
        for application in sorted(applications, key=lambda each: str(each["metadata"]["creationTimestamp"])):
            state = application.get("status", {}).get("applicationState", {}).get("state", "")
            if state == "" and len(self._running) < _AT_A_TIME:
                await self._start(application)
            elif state in _GOING_ON:
                await self._look(application)

    async def _start(self, application: Resource) -> None:
        name, uid = application["metadata"]["name"], application["metadata"]["uid"]
        # Written first: if this program dies now, the application counts as lost, and is never run twice.
        await self._report(application, "SUBMITTED", lastSubmissionAttemptTime=_now())
        try:
            self._running[uid] = self._submit(name, application["spec"])
        except (OSError, RuntimeError) as error:
            await self._report(application, "FAILED", f"failed to run spark-submit: {error}", terminationTime=_now())
            return
        _log.info("%s started, Spark UI at http://127.0.0.1:%d", name, self._running[uid].ui_port)

    def _submit(self, name: str, spec: Mapping[str, Any]) -> spark.SparkRun:
        cores = min(spec["executor"]["cores"] * spec["executor"].get("instances", 1), os.cpu_count() or 1)
        heap = max(_mebibytes(spec[part]["memory"]) for part in ("driver", "executor"))
        options = {
            key: value for key, value in spec.get("sparkConf", {}).items() if not key.startswith("spark.kubernetes.")
        }
        return spark.submit(
            self._processes,
            self._engines,
            self._directory,
            name=name,
            script=self._script(spec["mainApplicationFile"]),
            arguments=list(spec.get("arguments", ())),
            options=options,
            cores=cores,
            memory=f"{min(heap, _LARGEST_HEAP_MIB)}m",
            logged=self._logged,
        )

    def _script(self, file: str) -> Path:
        """A script in the image is the job of this checkout; any other one is where it says."""
        path = file.removeprefix("local://")
        for stage, entry_point in ENTRY_POINTS.items():
            if path == entry_point:
                return self._engines.jobs / "lakehouse_jobs" / f"{stage}.py"
        return Path(path)

    async def _look(self, application: Resource) -> None:
        run = self._running.get(application["metadata"]["uid"])
        if run is None:
            await self._report(application, "FAILED", "driver pod not found", terminationTime=_now())
            return
        outcome = run.outcome()
        if outcome is None:
            await self._report(application, "RUNNING")
            return
        del self._running[application["metadata"]["uid"]]
        if outcome.exit_code == ExitCode.SUCCEEDED:
            await self._report(application, "COMPLETED", terminationTime=_now())
            return
        message = f"driver container failed with ExitCode: {outcome.exit_code}, Reason: {_reason(outcome.exit_code)}"
        if problems := outcome.result.get("problems"):
            message += f": {'; '.join(problems)}"  # on a cluster the pod's status says it
        await self._report(application, "FAILED", message, terminationTime=_now())

    async def _report(self, application: Resource, state: str, message: str = "", **fields: str) -> None:
        metadata, status = application["metadata"], application.get("status", {})
        told = {"state": state, **({"errorMessage": message} if message else {})}
        application["status"] = {**status, **fields, "applicationState": told}
        if application["status"] != status:
            await self._cluster.write_status(
                SPARK_APPLICATION,
                metadata["namespace"],
                metadata["name"],
                uid=metadata["uid"],
                status=application["status"],
            )


def _reason(code: int) -> str:
    """What is known here of an end: on one machine nobody says who sent a signal, the kernel for memory included."""
    return f"Error (killed by signal {code - 128})" if code > 128 else "Error"


def _mebibytes(memory: str) -> int:
    """The heap of a SparkApplication, which the planner writes in MiB (`2048m`)."""
    return int(memory.removesuffix("m"))


def _now() -> str:
    return instant(system_clock())

"""The reference pipeline in the cluster, who sends events to it, and who judges what came of them."""

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import yaml

from e2e.cluster import Cluster, Manifest
from e2e.platform import BROKERS, CATALOG, HERE, REST_SECRET, STORE, TENANT, Images

EXAMPLE = HERE.parents[1] / "examples" / "roman-numerals.yaml"
NO_SUCH_IMAGE = "localhost/no-such-image:1"
RATE = 40
"""Events per second."""
CONFINED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
OVER = ("Succeeded", "Failed", "Cancelled")


def differences(name: str, images: Images) -> dict[str, Any]:
    """What this cluster's pipeline has other than the reference: addresses, and what makes it quick and small.

    The node has two CPUs. Every other line is the one of examples/roman-numerals.yaml.
    """
    spark = {
        "image": images.spark,
        "driver": {"cpu": 0.2, "memory": "1Gi"},
        "executor": {"cpu": 0.2, "memory": "1Gi"},
        "retry": {"backoff": "5s"},
    }
    return {
        "source": {"bootstrapServers": BROKERS, "consumerGroup": f"flink-bronze-ingestion-{name}"},
        "catalog": {"uri": CATALOG},
        "storage": {"endpoint": STORE},
        "bronze": {
            "image": images.flink,
            # What the Flink operator 1.7.0 calls the newest Flink that it knows; it runs 2.1 all the same.
            "flinkVersion": "v1_18",
            "checkpoint": {"interval": "5s"},
            "restart": {"attempts": 3, "delay": "2s"},
            "upgrade": {"soak": {"duration": "15s"}},
            "jobManager": {"cpu": 0.2, "memory": "1Gi"},
            "taskManager": {"cpu": 0.2, "memory": "1792Mi"},
            "flinkConfiguration": {
                # Small requests and generous limits: what starts needs a CPU for itself.
                "kubernetes.jobmanager.cpu.limit-factor": "10",
                "kubernetes.taskmanager.cpu.limit-factor": "10",
            },
        },
        "silver": spark,
        "gold": spark,
        # By hand alone; then it rewrites what the stream is just adding to.
        "maintenance": {**spark, "schedule": "0 0 29 2 *", "compaction": {"minAge": "1s", "minInputFiles": 2}},
    }


def manifest(name: str, images: Images) -> Manifest:
    """The reference pipeline with this cluster's differences."""
    pipeline = cast("Manifest", yaml.safe_load(EXAMPLE.read_text()))
    pipeline["metadata"] = {"name": name, "namespace": TENANT}
    _lay(pipeline["spec"], differences(name, images))
    return pipeline


def _lay(over: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Change fields, map by map, as the sample's chart does."""
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(over.get(name), dict):
            _lay(over[name], value)
        else:
            over[name] = value


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One pipeline, as a person sees it: with kubectl and the command line."""

    cluster: Cluster
    name: str

    def apply(self, document: Manifest) -> None:
        """Apply a manifest of it, as `kubectl apply` does."""
        self.cluster.apply(document)

    def change(self, **bronze: Any) -> None:
        """Change fields of its bronze stage."""
        self.patch({"bronze": bronze})

    def patch(self, spec: Mapping[str, Any]) -> None:
        """Merge into its spec."""
        patch = json.dumps({"spec": spec})
        self.cluster.kubectl("patch", "lhp", self.name, "-n", TENANT, "--type=merge", "-p", patch)

    def set_spec(self, spec: Mapping[str, Any]) -> None:
        """Make its spec this one and nothing more."""
        patch = json.dumps([{"op": "replace", "path": "/spec", "value": spec}])
        self.cluster.kubectl("patch", "lhp", self.name, "-n", TENANT, "--type=json", "-p", patch)

    def lakehouse(self, *arguments: str, code: int = 0) -> str:
        """Run the command line against the cluster."""
        command = [sys.executable, "-m", "lakehouse_operator.cli", *arguments, "-n", TENANT]
        done = subprocess.run(
            command,
            env=self.cluster.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    @property
    def seen(self) -> Manifest:
        """The object; empty if there is none."""
        return self.cluster.get(TENANT, "lhp", self.name) or {}

    @property
    def status(self) -> dict[str, Any]:
        """Its status."""
        return cast("dict[str, Any]", self.seen.get("status", {}))

    @property
    def stream(self) -> dict[str, Any]:
        """What its status says of the stream."""
        return cast("dict[str, Any]", self.status.get("stream", {}))

    @property
    def job(self) -> str | None:
        """Flink's id of the job that runs, or None."""
        is_running = self.condition("StreamRunning").get("status") == "True"
        return cast("str | None", self.stream.get("jobId")) if is_running else None

    def condition(self, kind: str) -> dict[str, Any]:
        """A condition; empty if there is none."""
        return next((each for each in self.status.get("conditions", []) if each["type"] == kind), {})

    @property
    def points(self) -> list[dict[str, Any]]:
        """Its recovery points, the newest first."""
        return cast("list[dict[str, Any]]", self.status.get("recoveryPoints", []))

    def until_ready(self, seconds: float = 300) -> None:
        """Wait until what was asked for is there and does well."""

        def is_ready() -> bool:
            seen = self.seen
            if not seen:
                return False
            status = seen.get("status", {})
            ready = next((each for each in status.get("conditions", []) if each["type"] == "Ready"), {})
            return (
                status.get("observedGeneration") == seen["metadata"]["generation"]
                and ready.get("status") == "True"
                and ready.get("observedGeneration", status["observedGeneration"]) == status["observedGeneration"]
            )

        self.cluster.until(is_ready, f"{self.name} is Ready", seconds=seconds, tell=self.tell)

    def until_state(self, *states: str, seconds: float = 240) -> None:
        """Wait until the stream is in one of some states."""
        self.cluster.until(
            lambda: self.stream.get("state") in states,
            f"stream is {' or '.join(states)}",
            seconds=seconds,
            tell=self.tell,
        )

    def until_seen(self) -> None:
        """Wait until the operator has taken its spec in."""
        generation = self.seen["metadata"]["generation"]
        self.cluster.until(
            lambda: self.status.get("acceptedGeneration") == generation,
            "the change is accepted",
            seconds=180,
            tell=self.tell,
        )

    def begin(self, stage: str) -> str:
        """Run a stage by hand; return the name of the LakehouseRun."""
        return self.lakehouse("run", self.name, "--stage", stage).split()[-1]

    def driver(self, run: str) -> str | None:
        """The driver's pod of a run, once its container runs."""
        for pod in self.cluster.find(TENANT, "pods", {"spark-role": "driver", "lakehouse.dev/run": run}):
            statuses = pod["status"].get("containerStatuses", [])
            if statuses and "running" in statuses[0]["state"]:
                return str(pod["metadata"]["name"])
        return None

    def run(self, stage: str, seconds: float = 400) -> dict[str, Any]:
        """Run a stage by hand, wait for its end, and return the LakehouseRun's status."""
        return self.outcome(self.begin(stage), seconds)

    def outcome(self, run: str, seconds: float = 400) -> dict[str, Any]:
        """Wait for the end of a run and return its status."""

        def over() -> dict[str, Any] | None:
            status = (self.cluster.get(TENANT, "lhr", run) or {}).get("status", {})
            return cast("dict[str, Any]", status) if status.get("phase") in OVER else None

        return self.cluster.until(over, f"{run} is over", seconds=seconds, tell=self.tell)

    def tell(self) -> str:
        """What a person would look at when it does not do well."""
        return json.dumps(self.status, indent=1)


@dataclass(frozen=True, slots=True)
class Client:
    """A pod inside the cluster, with the project's own programs: sends events and judges what came of them."""

    cluster: Cluster
    images: Images
    name: str
    topic: str

    def begin(self) -> None:
        """Be there."""
        scripts = {path.name: path.read_text() for path in (HERE / "client").glob("*.py")}
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": self.name, "namespace": TENANT},
                "data": scripts,
            },
            self._pod(),
        )
        self.cluster.kubectl(
            "wait", "pod", self.name, "-n", TENANT, "--for=condition=Ready", "--timeout=300s", seconds=330
        )  # fmt: skip

    def start(self) -> None:
        """Start to send. Whatever was being sent before is ended first; each start has a number of its own."""
        number = self.finish()
        self._exec(
            "sh",
            "-c",
            'mkdir -p "/work/$1"; shift; nohup "$@" > "/work/send.log" 2>&1 &',
            "sh",
            str(number),
            *("python", "/scripts/send.py", BROKERS, self.topic, f"{self.topic}-dlq", str(number), str(RATE)),
            f"/work/{number}",
        )

    def create_topic(self, name: str) -> None:
        """Create another topic for dead letters."""
        code = (
            "import sys; from lakehouse_operator.local.topics import Topics;"
            " Topics(sys.argv[1]).create(sys.argv[2], partitions=1, timestamps='LogAppendTime')"
        )
        self._exec("python", "-c", code, BROKERS, name)

    def finish(self) -> int:
        """Stop sending; return how many times it was started."""
        number = int(self._exec("sh", "-c", "ls /work | grep -c '^[0-9]*$' || true"))
        if number:
            last = f"/work/{number - 1}"
            look = ("sh", "-c", f"touch {last}/finish; cat {last}/sent.json 2>/dev/null || true")
            told = self.cluster.until(lambda: self._exec(*look), "the sender has ended", seconds=120, tell=self.log)
            assert json.loads(told)["records"] > 0, told
        return number

    def log(self) -> str:
        """What the sender said."""
        return self._exec("sh", "-c", "cat /work/send.log 2>/dev/null || true")

    def verify(self, document: Manifest) -> str:
        """`lakehouse verify`: all that bronze has read, against Kafka itself."""
        return self._exec("lakehouse", "verify", "-f", self.give(document))

    def judge(self, document: Manifest, layers: str) -> list[dict[str, Any]]:
        """The oracle's checks of everything that was sent, for `bronze` or `all`; nothing may be written meanwhile."""
        answer = self._exec("python", "/scripts/judge.py", BROKERS, self.give(document), "/work", layers)
        return cast("list[dict[str, Any]]", json.loads(answer.splitlines()[-1]))

    def offsets(self, group: str) -> tuple[int, int]:
        """How many records the topic holds, and how many of them a consumer group has committed."""
        code = (
            "import sys; from lakehouse_operator.local.topics import Topics; t = Topics(sys.argv[1]);"
            " print(sum(t.ends(sys.argv[2]).values()), sum(t.committed(sys.argv[3], sys.argv[2]).values()))"
        )
        ends, committed = self._exec("python", "-c", code, BROKERS, self.topic, group).split()
        return int(ends), int(committed)

    def give(self, document: Manifest) -> str:
        """Put a manifest where a person in the pod would have it; return where."""
        path = f"/work/{document['metadata']['name']}.yaml"
        self._exec("sh", "-c", f"cat > {path}", given=yaml.safe_dump(document))
        return path

    def to_verify(self, document: Manifest) -> dict[str, str]:
        """What `lakehouse verify` is on the pages -> what it is from the pod that reaches everything."""
        command = ["lakehouse", "verify", "-f", self.give(document)]
        within = shlex.join(["kubectl", "exec", self.name, "-n", TENANT, "-c", "client", "--", *command])
        return {"lakehouse verify -f pipeline.yaml": within}

    def _exec(self, *command: str, given: str | None = None) -> str:
        return self.cluster.exec(TENANT, self.name, "client", *command, given=given)

    def _pod(self) -> Manifest:
        def secret(name: str, key: str) -> dict[str, Any]:
            return {"secretKeyRef": {"name": name, "key": key}}

        environment = {
            "AWS_ACCESS_KEY_ID": secret("lakehouse-s3", "AWS_ACCESS_KEY_ID"),
            "AWS_SECRET_ACCESS_KEY": secret("lakehouse-s3", "AWS_SECRET_ACCESS_KEY"),
            "CATALOG_JDBC_USER": secret("lakehouse-catalog", "username"),
            "CATALOG_JDBC_PASSWORD": secret("lakehouse-catalog", "password"),
            "CATALOG_CREDENTIAL": secret(REST_SECRET, "credential"),
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": TENANT, "labels": {"app": self.name}},
            "spec": {
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 0,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 65532,
                    "fsGroup": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "initContainers": [
                    {
                        "name": "oracle",  # what the oracle computes with is no part of the operator's image
                        "image": self.images.testbed,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["cp", "-r", "/opt/testbed/python", "/oracle/"],
                        "securityContext": CONFINED,
                        "volumeMounts": [{"name": "oracle", "mountPath": "/oracle"}],
                    }
                ],
                "containers": [
                    {
                        "name": "client",
                        "image": self.images.operator,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["sleep", "infinity"],
                        "env": [
                            {"name": "AWS_REGION", "value": "us-east-1"},
                            {"name": "PYTHONPATH", "value": "/oracle/python"},
                            *({"name": name, "valueFrom": source} for name, source in environment.items()),
                        ],
                        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}},
                        "securityContext": CONFINED,
                        "volumeMounts": [
                            {"name": "scripts", "mountPath": "/scripts"},
                            {"name": "work", "mountPath": "/work"},
                            {"name": "oracle", "mountPath": "/oracle"},
                            {"name": "tmp", "mountPath": "/tmp"},
                        ],
                    }
                ],
                "volumes": [
                    {"name": "scripts", "configMap": {"name": self.name}},
                    {"name": "work", "emptyDir": {}},
                    {"name": "oracle", "emptyDir": {}},
                    {"name": "tmp", "emptyDir": {}},
                ],
            },
        }

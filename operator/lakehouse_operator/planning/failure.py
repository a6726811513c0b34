"""Why a run failed, and what happens next: the failure classes.

Infrastructure failures are retried freely, out-of-memory with more memory up to a cap, bad data holds what is
downstream, and code failures stop after a few tries.
"""

import re
from dataclasses import dataclass
from datetime import timedelta

from lakehouse_contract.commits import ExitCode
from lakehouse_operator.api.run import FailureClass
from lakehouse_operator.planning.observed import Application

# What a driver ends with that was told to stop, or was killed.
_SIGNALS = {143: "stopped", 137: "killed by signal 9, and not for its memory as far as Kubernetes says,"}
# Reasons that Kubernetes gives for a pod that it, not the job, ended: the kubelet's (status.reason), those of the
# condition DisruptionTarget, and that of a container whose node was lost.
_ENDED_BY_KUBERNETES = frozenset(
    {
        "Evicted", "Preempting", "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "UnexpectedAdmissionError",
        "OutOfcpu", "OutOfmemory", "OutOfpods", "NodeAffinity",
        "PreemptionByScheduler", "DeletionByTaintManager", "EvictionByEvictionAPI", "DeletionByPodGC",
        "TerminationByKubelet",
        "ContainerStatusUnknown",
        "Deleted",
    }
)  # fmt: skip
_OUT_OF_MEMORY = "OOMKilled"
_EXIT = re.compile(r"ExitCode: (\d+)")
# What the Spark operator says when the driver never ran (kubeflow/spark-operator `controller.go`, `submission.go`).
_SUBMISSION = re.compile(
    r"failed to (run spark-submit|submit|get master URL)|driver pod.*(not found|missing)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often each class is tried again, and how far memory may grow. A limit of 0 means never."""

    infrastructure: int = 10
    out_of_memory: int = 3
    data: int = 0
    code: int = 1
    backoff: timedelta = timedelta(seconds=30)
    max_backoff: timedelta = timedelta(minutes=15)
    memory_growth: float = 1.5
    max_memory_mib: int = 16_384

    def limit(self, failure: FailureClass) -> int:
        """How many failures of a class are followed by another try. A timeout counts as infrastructure."""
        match failure:
            case "Infrastructure" | "Timeout":
                return self.infrastructure
            case "OutOfMemory":
                return self.out_of_memory
            case "Data":
                return self.data
            case "Code":
                return self.code


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failed attempt was, in a sentence."""

    failure: FailureClass
    message: str
    exit_code: int | None = None


def classify(application: Application) -> Verdict:
    """Read why an application failed: from the pods' reasons, the driver's exit code and the operator's message.

    An exit code of 137 says only that the driver was killed by signal 9. That it was for its memory says the reason
    `OOMKilled`; without it, it was somebody else.
    """
    message = application.message or "the Spark operator gives no reason"
    code = application.exit_code if application.exit_code is not None else _code_in(message)
    if application.pod_reason == _OUT_OF_MEMORY or _OUT_OF_MEMORY in message:
        return Verdict("OutOfMemory", f"the driver was killed for its memory: {message}", code)
    if application.pod_reason in _ENDED_BY_KUBERNETES:
        said = f" ({application.pod_message})" if application.pod_message else ""
        return Verdict("Infrastructure", f"the driver's pod was ended: {application.pod_reason}{said}; {message}", code)
    if _SUBMISSION.search(message):
        return Verdict("Infrastructure", message, code)
    failure, told = _by_exit_code(code, message, application.last_words or message)
    if failure == "Code" and code != ExitCode.SETTINGS_REFUSED and application.executor_out_of_memory:
        return Verdict("OutOfMemory", f"an executor was killed for its memory: {message}", code)
    return Verdict(failure, told, code)


def _by_exit_code(code: int | None, message: str, said: str) -> tuple[FailureClass, str]:
    """The class of an exit code with a sentence: the Spark operator's `message`, or what the job has said itself."""
    if code in _SIGNALS:
        return "Infrastructure", f"the driver was {_SIGNALS[code]} from outside: {message}"
    match code:
        case ExitCode.BAD_DATA:
            return "Data", f"a rule of severity fail was broken, or an audit failed: {said}"
        case ExitCode.SETTINGS_REFUSED:
            return "Code", f"the job refused its settings: {said}"
        case ExitCode.OUT_OF_MEMORY:
            return "OutOfMemory", said
        case ExitCode.UNAVAILABLE | None:
            return "Infrastructure", said
        case _:
            return "Code", said


def _code_in(message: str) -> int | None:
    found = _EXIT.search(message)
    return int(found.group(1)) if found else None


def pause_after(policy: RetryPolicy, history: tuple[FailureClass, ...]) -> timedelta | None:
    """How long to wait after the last of these failures of one run, oldest first; None means that it was the last.

    Only failures of the same class count against its limit, so ten evictions leave the budget for code untouched.
    """
    tried = history.count(history[-1])
    if tried > policy.limit(history[-1]):
        return None
    doubled: int = 2 ** min(tried - 1, 20)
    return min(policy.backoff * doubled, policy.max_backoff)


def grown(memory_mib: int, policy: RetryPolicy, history: tuple[FailureClass, ...]) -> int:
    """The memory for the next attempt, in MiB: larger after each kill for memory, up to the cap."""
    factor = policy.memory_growth ** history.count("OutOfMemory")
    return max(memory_mib, min(int(memory_mib * factor), policy.max_memory_mib))

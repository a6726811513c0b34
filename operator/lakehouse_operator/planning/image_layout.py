"""Where things are in the images that this project builds, and under which user they run. The images must agree."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lakehouse_contract import decoding

FLINK_USER = 9999
SPARK_USER = 185
PYTHON = "/usr/bin/python3"
PYFLINK_JAR = "local:///opt/lakehouse/flink-python.jar"
"""A link to the version's own jar, so that the manifest does not depend on Flink's patch release. It lies outside of
Flink's folder `opt`, where Flink looks for one such jar and refuses two."""
ENTRY_POINTS: Mapping[str, str] = MappingProxyType(
    {stage: f"/opt/lakehouse/{stage}.py" for stage in ("bronze", "silver", "gold", "maintenance")}
)
"""Each calls `main` of the module `lakehouse_jobs.<stage>`."""

FLINK_WRITABLE: Mapping[str, str] = MappingProxyType({"tmp": "/tmp", "log": "/opt/flink/log"})  # noqa: S108
SPARK_WRITABLE: Mapping[str, str] = MappingProxyType({"tmp": "/tmp", "work": "/opt/spark/work-dir"})  # noqa: S108
"""Folders that must be writable in a container whose own file system is not: volume name -> path."""

# Between a manifest and a job's `argv` lie the kubelet, which replaces $(NAME), shell scripts, and lists of Flink's
# configuration, which are separated by semicolons. None of them touches what stays within these characters.
_KEPT = frozenset(' !%*+-./:<=>?@^_,{}[]()"\\')


def settings_argument(settings: object) -> str:
    """A job's settings as one argument that arrives exactly as it was sent: risky characters are JSON escapes."""
    return "".join(_escaped(character) for character in decoding.to_json(settings))


def _escaped(character: str) -> str:
    if character.isascii() and (character.isalnum() or character in _KEPT):
        return character
    encoded = character.encode("utf-16-be")
    return "".join(f"\\u{encoded[index : index + 2].hex()}" for index in range(0, len(encoded), 2))


def pod_security(user: int) -> dict[str, Any]:
    """A pod's security context, as the `restricted` Pod Security Standard wants it."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    """A container's security context: no rights, and a file system of its own that can't be written."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }


def writable(folders: Mapping[str, str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The volumes and their mounts for folders that must be writable."""
    volumes = [{"name": name, "emptyDir": {}} for name in folders]
    mounts = [{"name": name, "mountPath": path} for name, path in folders.items()]
    return volumes, mounts

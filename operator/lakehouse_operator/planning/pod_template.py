"""The pod template of every engine: security, writable folders, environment, and where the user wants pods to run."""

from collections.abc import Mapping
from typing import Any

from lakehouse_operator.api.pipeline import Pod
from lakehouse_operator.planning.image_layout import container_security, pod_security, writable


def build_pod_template(
    *,
    container: str,
    user: int,
    folders: Mapping[str, str],
    environment: list[dict[str, Any]],
    pod: Pod,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """A PodTemplateSpec.

    Args:
        container: The name that the engine's operator knows the main container by.
        user: The user id of the image.
        folders: Writable folders: volume name -> path.
        environment: The container's `env`.
        pod: What the user asked for.
        labels: This project's labels; they win over the user's.
    """
    volumes, mounts = writable(folders)
    main: dict[str, Any] = {"name": container, "securityContext": container_security(), "volumeMounts": mounts}
    if environment:
        main["env"] = environment
    metadata: dict[str, Any] = {"labels": {**pod.labels, **labels}}
    if pod.annotations:
        metadata["annotations"] = dict(pod.annotations)
    spec = {"securityContext": pod_security(user), "containers": [main], "volumes": volumes, **_placement(pod)}
    return {"metadata": metadata, "spec": spec}


def _placement(pod: Pod) -> dict[str, Any]:
    wished = {
        "nodeSelector": dict(pod.node_selector),
        "tolerations": [toleration.to_raw() for toleration in pod.tolerations],
        "priorityClassName": pod.priority_class_name,
        "imagePullSecrets": [secret.to_raw() for secret in pod.image_pull_secrets],
    }
    return {name: value for name, value in wished.items() if value}

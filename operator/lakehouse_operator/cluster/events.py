"""Events as the API server keeps them: one per object and message, with a count."""

import hashlib
import json
from datetime import UTC, datetime

from lakehouse_operator.cluster.kinds import EVENT
from lakehouse_operator.cluster.port import Event, Manifest, Resource

_LONGEST_NOTE = 1024  # bytes
_LONGEST_INSTANCE = 128


def event_manifest(event: Event, controller: str, instance: str) -> Resource:
    """The manifest of an event. Its name follows from what it says, so that saying it again finds it."""
    identity = json.dumps([event.uid, event.type, event.reason, event.message])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {"namespace": event.namespace, "name": f"{event.name}.{digest}"},
        "eventTime": _micro_time(event.at),
        "reportingController": controller,
        "reportingInstance": instance[:_LONGEST_INSTANCE],
        "action": "Reconcile",
        "type": event.type,
        "reason": event.reason,
        "note": _cut(event.message),
        "regarding": {
            "apiVersion": event.kind.api_version,
            "kind": event.kind.name,
            "namespace": event.namespace,
            "name": event.name,
            "uid": event.uid,
        },
    }


def counted_again(seen: Manifest, at: datetime) -> Resource:
    """The `series` of an event that has happened once more."""
    count: int = (seen.get("series") or {}).get("count", 1)
    return {"count": count + 1, "lastObservedTime": _micro_time(at)}


def _micro_time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _cut(message: str) -> str:
    """The message, or as much of it as an event may hold; the limit counts bytes."""
    encoded = message.encode()
    if len(encoded) <= _LONGEST_NOTE:
        return message
    return f"{encoded[: _LONGEST_NOTE - 3].decode(errors='ignore')}..."

"""Values that the chart is rendered with: what people set, alone and together."""

from typing import Any

EVERYTHING: dict[str, Any] = {
    "watchNamespaces": ["team-a", "team-b"],
    "replicas": 2,
    "image": {"repository": "registry.example.com/lakehouse-operator", "digest": f"sha256:{'0123456789abcdef' * 4}"},
    "imagePullSecrets": [{"name": "registry"}],
    "observation": {
        "allowedEndpoints": ["kafka:9092", "*.data.svc:*"],
        "secrets": {"team-a": ["lakehouse-s3", "lakehouse-catalog"], "team-b": ["lakehouse-s3"]},
    },
    "jobs": {"flink": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/flink"}}},
    "serviceAccount": {"name": "operator", "annotations": {"a": "b"}},
    "rbac": {"aggregate": True},
    "podDisruptionBudget": {"enabled": True, "maxUnavailable": "50%"},
    "metrics": {
        "serviceAnnotations": {"a": "b"},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "rules": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True},
    },
    "networkPolicy": {
        "enabled": True,
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "apiServer": {"ports": [443], "cidrs": ["10.0.0.1/32"]},
        "egress": [{"ports": [{"port": 9092, "protocol": "TCP"}]}],
    },
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "podLabels": {"team": "platform", "app.kubernetes.io/component": "not-to-be-changed"},
    "podAnnotations": {"a": "b"},
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]
            }
        }
    },
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
}
NOTHING: dict[str, Any] = {
    "leaderElection": {"enabled": False},
    "jobs": {"flink": {"create": False}, "spark": {"create": False}},
    "crds": {"install": False},
    "serviceAccount": {"create": False, "name": "somebody"},
    "rbac": {"create": False},
    "metrics": {"enabled": False},
    "uninstall": {"releaseFinalizers": False},
}
MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": EVERYTHING,
    "everything, cluster-wide": {**EVERYTHING, "watchNamespaces": [], "jobs": {"namespaces": ["team-a"]}},
    "nothing": NOTHING,
    "one namespace": {"watchNamespaces": ["team-a"]},
    "one replica without a Lease": {"leaderElection": {"enabled": False}},
    "everything goes on uninstall": {"watchNamespaces": ["team-a"], "crds": {"keep": False}, "jobs": {"keep": False}},
    "as on OpenShift": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}},
    "named at length": {"fullnameOverride": "a" * 63, "watchNamespaces": ["team-a"], "replicas": 0},
}

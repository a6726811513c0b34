"""The configuration and the command line of each program of the node, as the node itself sees its files.

In the node, ``/run/node`` is the folder `files` of the cluster's `Place`, and ``/run/programs`` holds the programs.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from single_node.network import LINK_INSIDE, NODE

FILES = "/run/node"
PROGRAMS = "/run/programs"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
IMAGES_NAMESPACE = "k8s.io"
"""Containerd's namespace for what kubelet sees."""

NODE_NAME = "node"
API_PORT = 6443
READY_PORT = 8181
"""Where coredns says whether it answers."""
PODS = "10.98.0.0/16"
SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DOMAIN = "cluster.local"

ADMIN = "admin"
# Who uses the API server: the user, the groups. The rights of all but the first two are Kubernetes' own roles.
USERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    ADMIN: ("admin", ("system:masters",)),
    "coredns": ("lakehouse:coredns", ()),
    "kubelet": (f"system:node:{NODE_NAME}", ("system:nodes",)),
    "kube-controller-manager": ("system:kube-controller-manager", ()),
    "kube-scheduler": ("system:kube-scheduler", ()),
    "kube-proxy": ("system:kube-proxy", ()),
}


@dataclass(frozen=True, slots=True)
class Service:
    """A program of the node that is started, and started again if it ends.

    Attributes:
        name: Its log is called so.
        command: Its command line in the node.
        needs_api: Whether it is started only when the API server answers.
    """

    name: str
    command: tuple[str, ...]
    needs_api: bool


def address(subnet: str) -> str:
    """The node's address."""
    return f"{subnet}.{NODE}"


def url(subnet: str) -> str:
    """Where the API server answers, from the host and in the node."""
    return f"https://{address(subnet)}:{API_PORT}"


def certificate_command(subnet: str, key: str, certificate: str) -> list[str]:
    """The command that makes the cluster's one certificate and its key.

    It is the API server's certificate, what its clients trust, and what the API server shows to kubelet.
    """
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}"]
    addresses = [address(subnet), API_SERVICE, "127.0.0.1"]
    subjects = ",".join([*(f"DNS:{name}" for name in names), *(f"IP:{each}" for each in addresses)])
    return [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256"),
        *("-days", "3650", "-subj", "/O=system:masters/CN=lakehouse-cluster", "-addext", f"subjectAltName={subjects}"),
        *("-addext", "keyUsage=critical,digitalSignature,keyCertSign", "-keyout", key, "-out", certificate),
    ]


def files(subnet: str, tokens: Mapping[str, str], certificate: str, sandbox_image: str) -> dict[str, str]:
    """The files of the node by their paths below its folder.

    Args:
        subnet: Its subnet.
        tokens: The token of each of `USERS`.
        certificate: The cluster's certificate, as PEM.
        sandbox_image: What holds the namespaces of pods.
    """
    kubeconfigs = {
        f"kubeconfigs/{user}": json.dumps(kubeconfig(subnet, user, token, certificate))
        for user, token in tokens.items()
    }
    return kubeconfigs | {
        "tokens.csv": "".join(_token_line(user, token) for user, token in tokens.items()),
        "containerd.toml": containerd(sandbox_image),
        "cni/pods.conflist": json.dumps(pod_network()),
        "kubelet.json": json.dumps(kubelet(subnet)),
        "Corefile": corefile(subnet),
        "resolv.conf": resolv_conf(subnet),
        # Kubelet wants to set these for the whole machine. It is shown that they are as it wants them.
        "sysctl/vm/overcommit_memory": "1",
        "sysctl/vm/panic_on_oom": "0",
        "sysctl/kernel/panic": "10",
        "sysctl/kernel/panic_on_oops": "1",
        "sysctl/kernel/keys/root_maxkeys": "1000000",
        "sysctl/kernel/keys/root_maxbytes": "25000000",
    }


def _token_line(user: str, token: str) -> str:
    name, groups = USERS[user]
    return f'{token},{name},{name},"{",".join(groups)}"\n'


def kubeconfig(subnet: str, user: str, token: str, certificate: str) -> dict[str, Any]:
    """What a client of the API server reads."""
    authority = base64.b64encode(certificate.encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lakehouse",
        "contexts": [{"name": "lakehouse", "context": {"cluster": "lakehouse", "user": user, "namespace": "default"}}],
        "clusters": [
            {"name": "lakehouse", "cluster": {"server": url(subnet), "certificate-authority-data": authority}}
        ],
        "users": [{"name": user, "user": {"token": token}}],
    }


def containerd(sandbox_image: str) -> str:
    """Containerd's configuration: nothing of it outside of /run and /var, which are the node's own."""
    return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{sandbox_image}"
disable_apparmor = true
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{FILES}/cni"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""


def pod_network() -> dict[str, Any]:
    """The pods' network: a cable from each pod to the node, which routes.

    Not a bridge: pods on a bridge reach each other past the node's iptables, so services work only where the kernel
    has br_netfilter.
    """
    ranges = {"type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": PODS}]]}
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "ipam": ranges | {"routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def kubelet(subnet: str) -> dict[str, Any]:
    """Kubelet's configuration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{FILES}/certificate.pem"},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [address(subnet)],
        "clusterDomain": DOMAIN,
        "resolvConf": "",
        "cgroupDriver": "cgroupfs",
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        # The disk is the host's: how full it is says nothing about the pods. And an image that is removed is gone,
        # because there is no registry to pull it from again.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageMinimumGCAge": "24h",
    }


def corefile(subnet: str) -> str:
    """Coredns' configuration. There is no way out of the cluster, so no other name exists."""
    return f"""\
{DOMAIN} in-addr.arpa ip6.arpa {{
    bind {address(subnet)}
    errors
    ready {address(subnet)}:{READY_PORT}
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {FILES}/kubeconfigs/coredns
        pods insecure
    }}
}}
. {{
    bind {address(subnet)}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def resolv_conf(subnet: str) -> str:
    """How names are looked up by host programs in the cluster's network: as in a pod of the namespace ``default``."""
    search = f"default.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}"
    return f"nameserver {address(subnet)}\nsearch {search}\noptions ndots:5\n"


def rights() -> dict[str, Any]:
    """The rights of coredns, for which Kubernetes has no role of its own."""
    metadata = {"name": "lakehouse-coredns"}
    reading = {"verbs": ["list", "watch"]}
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": metadata,
                "rules": [
                    reading | {"apiGroups": [""], "resources": ["endpoints", "namespaces", "pods", "services"]},
                    reading | {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"]},
                ],
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": metadata["name"]},
                "subjects": [
                    {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USERS["coredns"][0]},
                ],
            },
        ],
    }


def services(subnet: str) -> list[Service]:
    """The programs of the node, in the order in which they are started."""
    return [
        _service("etcd", *_etcd()),
        _service("kube-apiserver", *_api_server(subnet)),
        Service("containerd", ("containerd", f"--config={FILES}/containerd.toml"), needs_api=False),
        _service("kube-controller-manager", *_controller_manager(), needs_api=True),
        _service("kube-scheduler", *_scheduler(), needs_api=True),
        _service("kubelet", *_kubelet(subnet), needs_api=True),
        _service("kube-proxy", *_proxy(), needs_api=True),
        _service("coredns", f"-conf={FILES}/Corefile", needs_api=True),
    ]


def _service(name: str, *arguments: str, needs_api: bool = False) -> Service:
    return Service(name, (f"{PROGRAMS}/{name}", *arguments), needs_api)


def _etcd() -> list[str]:
    here = "http://127.0.0.1"
    return [
        "--data-dir=/var/lib/etcd",
        f"--listen-client-urls={here}:2379",
        f"--advertise-client-urls={here}:2379",
        f"--listen-peer-urls={here}:2380",
        f"--initial-advertise-peer-urls={here}:2380",
        f"--initial-cluster=default={here}:2380",
        # It outlives its own end, and only that: when the machine fails the cluster is gone anyway.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _api_server(subnet: str) -> list[str]:
    certificate, key = f"{FILES}/certificate.pem", f"{FILES}/key.pem"
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        f"--bind-address={address(subnet)}",
        f"--advertise-address={address(subnet)}",
        f"--secure-port={API_PORT}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--token-auth-file={FILES}/tokens.csv",
        "--anonymous-auth=false",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
        f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
        f"--service-account-key-file={certificate}",
        f"--service-account-signing-key-file={key}",
        f"--service-cluster-ip-range={SERVICES}",
        # Otherwise `kubectl logs` looks up the node's name.
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={certificate}",
        f"--kubelet-client-key={key}",
    ]


def _controller_manager() -> list[str]:
    return [
        f"--kubeconfig={FILES}/kubeconfigs/kube-controller-manager",
        f"--root-ca-file={FILES}/certificate.pem",
        f"--service-account-private-key-file={FILES}/key.pem",
        "--use-service-account-credentials",
        "--flex-volume-plugin-dir=/var/lib/kubelet/volume-plugins",
        "--bind-address=127.0.0.1",
        # There is one, and it must not end because a busy machine lets it miss its turn; nor must the node count as
        # lost for that.
        "--leader-elect=false",
        "--node-monitor-grace-period=3m",
    ]


def _scheduler() -> list[str]:
    return [f"--kubeconfig={FILES}/kubeconfigs/kube-scheduler", "--bind-address=127.0.0.1", "--leader-elect=false"]


def _kubelet(subnet: str) -> list[str]:
    return [
        f"--config={FILES}/kubelet.json",
        f"--kubeconfig={FILES}/kubeconfigs/kubelet",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={address(subnet)}",
    ]


def _proxy() -> list[str]:
    return [
        f"--kubeconfig={FILES}/kubeconfigs/kube-proxy",
        f"--hostname-override={NODE_NAME}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={PODS}",
        # These would be set for the whole machine.
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    ]


def plan(subnet: str, hierarchies: list[tuple[str, str, str]]) -> dict[str, Any]:
    """What process 1 of the node is told.

    Args:
        subnet: The node's subnet.
        hierarchies: Kind, directory's name and mount options of each hierarchy of cgroups.
    """
    return {
        "address": address(subnet),
        "link": LINK_INSIDE,
        "service_addresses": SERVICES,
        "hostname": NODE_NAME,
        "files": FILES,
        "programs": PROGRAMS,
        "cgroups": hierarchies,
        "ready": [
            f"{PROGRAMS}/kubectl",
            f"--kubeconfig={FILES}/kubeconfigs/{ADMIN}",
            "--request-timeout=2s",
            *("get", "--raw=/readyz"),
        ],
        "services": [[service.name, list(service.command), service.needs_api] for service in services(subnet)],
    }

"""The node's network: a namespace of its own, and a cable (a veth pair) between the host and it."""

import ipaddress
import json
import subprocess
from collections.abc import Iterable, Sequence

from single_node.place import ClusterError

HOST, NODE = 1, 2
"""The last bytes of the addresses at the two ends of the cable."""
LINK_INSIDE = "eth0"


def candidates(start: int) -> Iterable[str]:
    """The subnets that may be used, in order, as the first three bytes: 10.99.0-255, then some of another range."""
    for beginning in ("10.99", "172.30"):
        yield from (f"{beginning}.{(start + step) % 256}" for step in range(256))


def free_subnet(taken: Sequence[str], start: int = 0) -> str:
    """Find a subnet that the host has no route to.

    Args:
        taken: The destinations of the host's routes, as ``ip route`` says them.
        start: Where to begin to look. Clusters that begin at different places rarely race for the same one.

    Raises:
        ClusterError: They are all taken.
    """
    networks = [ipaddress.ip_network(each, strict=False) for each in taken if each != "default"]
    for candidate in candidates(start):
        subnet = ipaddress.ip_network(f"{candidate}.0/24")
        if not any(subnet.overlaps(network) for network in networks if network.version == 4):
            return candidate
    raise ClusterError(
        "this machine has routes into all of 10.99.0.0/16 and 172.30.0.0/16 (a VPN, perhaps), so there is no subnet "
        "left for the cluster: end the VPN, or use a cluster of your own with LAKEHOUSE_E2E_KUBECONFIG"
    )


def routes() -> list[str]:
    """The destinations of the host's routes, in all tables."""
    said = json.loads(_ip("-json", "-4", "route", "show", "table", "all"))
    return [route["dst"] for route in said]


def join(link: str, subnet: str, pid: int) -> None:
    """Lay the cable from the host into the network of a process, and give the host's end its address."""
    for command in commands_to_join(link, subnet, pid):
        _ip(*command)


def commands_to_join(link: str, subnet: str, pid: int) -> list[list[str]]:
    """What ``ip`` is told on the host."""
    return [
        ["link", "add", link, "type", "veth", "peer", "name", LINK_INSIDE, "netns", str(pid)],
        ["address", "add", f"{subnet}.{HOST}/24", "dev", link],
        ["link", "set", link, "up"],
    ]


def cut(link: str) -> None:
    """Remove the cable, if it is there. (It goes with the node's network, but not at once.)"""
    if link in links():
        # The kernel may be quicker.
        subprocess.run(["ip", "link", "delete", link], capture_output=True, check=False)


def links() -> list[str]:
    """The names of the host's network interfaces."""
    return [link["ifname"] for link in json.loads(_ip("-json", "link", "show"))]


def _ip(*arguments: str) -> str:
    answer = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise ClusterError(f"'ip {' '.join(arguments)}' failed: {answer.stderr.strip()}")
    return answer.stdout


def start_for(key: str) -> int:
    """Where a cluster of this key begins to look for a subnet."""
    return int(key[:2], 16)

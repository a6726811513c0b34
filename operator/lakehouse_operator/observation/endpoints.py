"""Which endpoints the operator may talk to on behalf of a pipeline.

A pipeline names brokers, catalogs and stores. Whoever may create pipelines could otherwise make the operator, with its
own network rights, talk to any address. So an endpoint is contacted only if whoever installed the operator allowed it.
"""

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from lakehouse_operator.api.pipeline import PipelineSpec

_HOSTS = re.compile(r"//(?:[^/@]*@)?([^/?]+)")


def endpoints(spec: PipelineSpec) -> tuple[str, ...]:
    """The `host:port` of everything that observing a pipeline talks to; local files need none."""
    found = list(spec.source.bootstrap_servers.split(","))
    uris = (spec.catalog.uri, spec.storage.endpoint if spec.storage else None)
    found += [host for uri in uris if uri for host in _hosts(uri)]
    return tuple(dict.fromkeys(endpoint for endpoint in found if endpoint))


def _hosts(uri: str) -> Iterator[str]:
    """The hosts of an address: several in `jdbc:postgresql://one:5432,two:5432/db` and `thrift://one,thrift://two`."""
    for hosts in _HOSTS.findall(uri):
        for each in hosts.split(","):
            if not each.endswith(":"):  # the beginning of the next address
                host = urlsplit(f"//{each}")
                yield f"{host.hostname}:{host.port}" if host.port else str(host.hostname)


def refused(wanted: Iterable[str], allowed: Iterable[str]) -> tuple[str, ...]:
    """Those that no pattern allows. A pattern is `host:port` with `*` as a wildcard, such as `*.data.svc:*`."""
    patterns = tuple(allowed)
    return tuple(endpoint for endpoint in wanted if not any(fnmatchcase(endpoint, pattern) for pattern in patterns))

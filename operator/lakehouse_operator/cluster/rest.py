"""Requests to the API server: who we are, how long we wait, what is tried again, and what an answer means."""

import asyncio
import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, list_kube_config_contexts, load_incluster_config, load_kube_config
from kubernetes.aio.config.incluster_config import SERVICE_HOST_ENV_NAME, SERVICE_TOKEN_FILENAME

from lakehouse_operator.cluster.errors import (
    ClusterError,
    Conflict,
    NotFound,
    NotInstalled,
    Refused,
    Throttled,
    Unavailable,
)
from lakehouse_operator.cluster.port import Resource

APPLY_PATCH = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
JSON = "application/json"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

# Server-side apply answers a manifest that does not fit the schema with code 500 (Kubernetes 1.34). Trying again would
# not help, and the message names the field.
_DOES_NOT_FIT = "failed to create typed patch object"

# All that it says of a JSON patch with a test that fails.
_TEST_FAILED = "the server rejected our request due to an error in our request"
# What it says, in plain text, below a group or version that it does not know; nothing where a schema has just gone.
_NO_SUCH_KIND = ("404 page not found", "")


class AlreadyExists(ClusterError):
    """There is an object of this name. It never leaves this room: `create_once` turns it into an answer."""


class Expired(ClusterError):
    """The list that was being paged through is too old to go on with. It never leaves this room."""


class Unauthorized(Refused):
    """The API server does not know who we are."""


# Some messages repeat the whole object.
_LONGEST_MESSAGE = 2000

_BY_STATUS: Mapping[int, type[ClusterError]] = {401: Unauthorized, 404: NotFound, 409: Conflict, 410: Expired}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait and how often to try, in seconds.

    Attributes:
        connect: for a connection, including the wait for a free one.
        answer: for one whole answer.
        attempts: how often a request is made before its error is reported.
        first_pause: before the second attempt; it doubles from then on, less a random part.
        longest_pause: no pause is longer. A server that asks for more gets its wish from the caller: `Throttled`.
        connections: how many requests are under way at once; others wait.
    """

    connect: float = 10.0
    answer: float = 30.0
    attempts: int = 5
    first_pause: float = 0.2
    longest_pause: float = 5.0
    connections: int = 32


@dataclass(frozen=True, slots=True)
class Login:
    """Where to find the API server and who we are.

    Attributes:
        kubeconfig: a kubeconfig file. None: `$KUBECONFIG`, else the pod's service account, else `~/.kube/config`.
        context: a context in the kubeconfig; None takes its current one.
    """

    kubeconfig: Path | None = None
    context: str | None = None

    async def configuration(self) -> Configuration:
        """Settings for a client; tokens of service accounts in it renew themselves.

        Raises:
            Refused: if there is no usable configuration; the message says what was tried.
        """
        configuration = Configuration()
        file = self._file()
        try:
            if file is None:
                load_incluster_config(client_configuration=configuration)
            else:
                await load_kube_config(
                    config_file=str(file),
                    context=self.context,
                    client_configuration=configuration,
                    persist_config=False,
                )
        except (ConfigException, OSError) as error:
            tried = "the pod's service account" if file is None else f"kubeconfig {file}"
            raise Refused(f"no access to a cluster with {tried}: {error}") from error
        return configuration

    def namespace(self) -> str:
        """The namespace that is meant where none is named: the context's, or the pod's own, or `default`."""
        try:
            file = self._file()
            if file is None:
                return Path(SERVICE_TOKEN_FILENAME).with_name("namespace").read_text(encoding="utf-8").strip()
            contexts, current = list_kube_config_contexts(str(file))
        except (ConfigException, OSError):
            return "default"  # whoever connects with such a login is told what is wrong with it
        chosen = next((each for each in contexts if each["name"] == self.context), current)
        return str(chosen["context"].get("namespace") or "default")

    def _file(self) -> Path | None:
        """The kubeconfig to use; None stands for the pod's service account."""
        if self.kubeconfig is not None:
            return self.kubeconfig
        if from_environment := os.environ.get("KUBECONFIG"):
            return Path(from_environment)
        in_pod = SERVICE_HOST_ENV_NAME in os.environ and Path(SERVICE_TOKEN_FILENAME).exists()
        return None if in_pod and self.context is None else Path("~/.kube/config").expanduser()


@dataclass(slots=True)
class _Connections:
    """The pool of one login. When that has run out, the last request under way closes it."""

    api: ApiClient
    users: int = 0
    retired: bool = False


class Rest:
    """A connection pool to one API server that speaks JSON and raises this room's errors.

    Every request may be sent twice: callers only send what may be repeated.
    """

    def __init__(self, login: Login, patience: Patience) -> None:
        self._login = login
        self._patience = patience
        self._timeout = aiohttp.ClientTimeout(total=patience.answer + patience.connect, connect=patience.connect)
        self._logging_in = asyncio.Lock()
        self._connections: _Connections | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._connections is not None:
            await self._connections.api.close()
            self._connections = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Resource:
        """Send a request, again if need be, and return the answer.

        Args:
            method: GET, POST, PATCH, DELETE.
            path: below the server's address, without a slash in front.
            query: parameters, not yet encoded.
            body: something that JSON can hold.
            content_type: of the body.
            accept: the form of the answer.

        Raises:
            ClusterError: one of `port`'s errors, `AlreadyExists` or `Expired`.
        """
        url = f"/{path}?{urlencode(query)}" if query else f"/{path}"
        pause, attempt, logged_in_again = self._patience.first_pause, 1, False
        while True:
            connections = await self._connected()
            try:
                return await self._request_with(
                    connections, method, url, body, {"Accept": accept, "Content-Type": content_type}
                )
            except Unauthorized:
                # The token of an exec plugin runs out. Whoever is refused with a new one is not known here.
                if logged_in_again:
                    raise
                logged_in_again = True
                await self._log_out(connections)
                continue
            except (Throttled, Unavailable) as error:
                asked = error.retry_after if isinstance(error, Throttled) else 0.0
                if attempt >= self._patience.attempts or asked > self._patience.longest_pause:
                    raise
            await asyncio.sleep(max(asked, pause * random.uniform(0.5, 1.0)))  # noqa: S311 (not a secret)
            pause, attempt = min(2 * pause, self._patience.longest_pause), attempt + 1

    async def _connected(self) -> _Connections:
        async with self._logging_in:
            if self._connections is None:
                configuration = await self._login.configuration()
                configuration.connection_pool_maxsize = self._patience.connections
                # Ours are the only retries: two layers would multiply.
                configuration.retries = None
                # Asked once, here: the transport would ask the environment and ~/.netrc again for each request, in a
                # thread, which doubles what a request costs.
                configuration.proxy = configuration.proxy or _proxy_of_environment(configuration.host)
                configuration.client_session_kwargs = {"trust_env": False}
                self._connections = _Connections(ApiClient(configuration))
            return self._connections

    async def _log_out(self, connections: _Connections) -> None:
        """Make the next request log in again, unless another request saw to that before."""
        if self._connections is connections:
            self._connections = None
        connections.retired = True
        if connections.users == 0:
            await connections.api.close()

    async def _request_with(
        self, connections: _Connections, method: str, url: str, body: object, headers: Mapping[str, str]
    ) -> Resource:
        connections.users += 1
        try:
            return await self._request_once(connections.api, method, url, body, {**headers})
        finally:
            connections.users -= 1
            if connections.retired and connections.users == 0:
                await connections.api.close()

    async def _request_once(
        self, api: ApiClient, method: str, url: str, body: object, headers: dict[str, str]
    ) -> Resource:
        headers["User-Agent"] = "lakehouse-operator"
        await api.update_params_for_auth(headers, [], ["BearerToken"], url, method, body)
        try:
            answer = await api.rest_client.request(
                method, api.configuration.host + url, headers=headers, body=body, _request_timeout=self._timeout
            )
            content: bytes = await answer.read()
        except TimeoutError as error:
            raise Unavailable(f"the API server did not answer within {self._timeout.total:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"the API server can't be reached: {error}") from error
        return _understand(answer.status, answer.headers, content)


def _proxy_of_environment(url: str) -> str | None:
    """The proxy that `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` ask for."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


def _understand(status: int, headers: Mapping[str, str], content: bytes) -> Resource:
    """The body of a good answer; raises the error that a bad one stands for."""
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _error_without_json(status, headers, content[:500].decode(errors="replace").strip())
    if status >= 300:
        raise _error(status, headers, body)
    return body


def _error_without_json(status: int, headers: Mapping[str, str], text: str) -> ClusterError:
    if status == 404 and text in _NO_SUCH_KIND:
        return NotInstalled(text)
    if 400 <= status < 500 and status != 404:
        return _error(status, headers, {"message": text})
    return Unavailable(f"something that is no API server answered ({status}): {text}")


def _error(status: int, headers: Mapping[str, str], body: Resource) -> ClusterError:
    """The error that an answer stands for; `body` is a Kubernetes Status."""
    message = _shortened(str(body.get("message") or f"HTTP {status}"))
    if status == 429:
        return Throttled(message, _seconds(headers.get("Retry-After")))
    if status == 409 and body.get("reason") == "AlreadyExists":
        return AlreadyExists(message)
    if status == 422 and (message == _TEST_FAILED or _is_about_uid(body)):
        return Conflict("the object has another UID or another version than the one that was meant")
    if status >= 500 and _DOES_NOT_FIT not in message:
        return Unavailable(f"the API server failed ({status}): {message}")
    return _BY_STATUS.get(status, Refused)(message)


def _shortened(message: str) -> str:
    """The message without its middle where it is very long: what is wrong stands at the end."""
    half = _LONGEST_MESSAGE // 2
    return message if len(message) <= _LONGEST_MESSAGE else f"{message[: half - 5]} ... {message[-half:]}"


def _is_about_uid(body: Resource) -> bool:
    """Whether an apply was turned down because the object of this name has another UID than the manifest."""
    causes: list[dict[str, Any]] = (body.get("details") or {}).get("causes") or []
    return any(cause.get("field") == "metadata.uid" for cause in causes)


def _seconds(retry_after: str | None) -> float:
    try:
        return max(0.0, float(retry_after or 1.0))
    except ValueError:
        # The header may also hold a date; the API server does not write one, something in between might.
        return 1.0

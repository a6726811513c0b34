"""Ask the API server of a cluster whether it is as it should be. Needs no client library."""

import json
import ssl
import urllib.request
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 5.0
"""How long one request may take, in seconds."""


@dataclass(frozen=True, slots=True)
class Api:
    """An API server, and how to reach it.

    Attributes:
        url: ``https://...``.
        token: Who asks.
        authority: What its certificate is checked with, as PEM.
    """

    url: str
    token: str
    authority: str

    def get(self, path: str) -> Any | None:
        """What the API server answers, or None if it answers nothing good, or not at all."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        trust = urllib.request.HTTPSHandler(context=ssl.create_default_context(cadata=self.authority))
        text = _read(urllib.request.build_opener(urllib.request.ProxyHandler({}), trust), request)
        return text if text is None or not text.startswith("{") else json.loads(text)


def read(kubeconfig: Path) -> Api | None:
    """Read how to reach an API server out of a kubeconfig of ours, or None if it is not there."""
    try:
        content = json.loads(kubeconfig.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    cluster = content["clusters"][0]["cluster"]
    authority = b64decode(cluster["certificate-authority-data"]).decode()
    return Api(cluster["server"], content["users"][0]["user"]["token"], authority)


def is_answered(url: str) -> bool:
    """Whether a plain address answers well."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return _read(opener, urllib.request.Request(url)) is not None


def _read(opener: urllib.request.OpenerDirector, request: urllib.request.Request) -> str | None:
    try:
        with opener.open(request, timeout=PATIENCE) as answer:
            text: str = answer.read().decode()
    except OSError:
        return None
    return text

"""Just enough of a client for the API server: what the test environment asks as the cluster's administrator."""

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

from tests.testenv.certificates import Identity

_TIMEOUT = 30.0


class ApiRefusedError(Exception):
    """The API server said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class AdminApi:
    """Requests over one connection each; OSError while the API server is away."""

    def __init__(self, port: int, ca_file: Path, identity: Identity) -> None:
        self._port = port
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._tls.load_cert_chain(identity.certificate, identity.key)

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        """Make a request; ApiRefusedError for an answer that is not 2xx."""
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, context=self._tls, timeout=_TIMEOUT)
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise ApiRefusedError(answer.status, text.decode(errors="replace")[:1000])
        return text

    def is_ready(self) -> bool:
        """Whether /readyz says ok."""
        try:
            return self.request("GET", "/readyz") == b"ok"
        except (OSError, http.client.HTTPException, ApiRefusedError):
            return False

    def find(self, path: str) -> dict[str, Any] | None:
        """Read an object; None if it is not there, or nobody can say."""
        try:
            found: dict[str, Any] = json.loads(self.request("GET", path))
        except (OSError, http.client.HTTPException, ApiRefusedError):
            return None
        return found

    def takes_pods(self) -> bool:
        """Whether pods are let into the namespace `default`: one whose ServiceAccount has not been made is refused."""
        return self.find("/api/v1/namespaces/default/serviceaccounts/default") is not None

    def create_token(self, namespace: str, account: str, *, audience: str | None, seconds: int) -> str:
        """Ask for a token as the kubelet does (TokenRequest); without an audience it is one for the API server."""
        spec = {"expirationSeconds": seconds, **({"audiences": [audience]} if audience else {})}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        answer = self.request(
            "POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        )
        return str(json.loads(answer)["status"]["token"])

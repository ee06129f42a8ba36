"""How talking to the API server can go wrong.

KubernetesError
    SourceError       a kubeconfig, or what a pod is given, cannot be used: a matter of configuration
    ApiError          the API server's own no
    ApiUnavailable    no answer, or none that says anything about the request: waiting may help
"""

from collections.abc import Mapping
from typing import Any

EXPIRED = 410
"""Status of a list's continuation or a watch whose resourceVersion is no longer known."""
CONFLICT = 409
NOT_FOUND = 404
UNAUTHORIZED = 401

_MESSAGE_LIMIT = 1000
_TOO_MANY_REQUESTS = 429
_SERVER_ERRORS = 500


class KubernetesError(Exception):
    """What talking to the API server raises; str() carries no token and no body of a request."""


class SourceError(KubernetesError):
    """A kubeconfig, or the files that Kubernetes gives to a pod, cannot be used."""


class ApiError(KubernetesError):
    """The API server's own no: any 4xx but 429 (Kubernetes API conventions, "HTTP Status codes")."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        """`reason` is metav1.Status's, such as Forbidden, NotFound, Conflict or Expired."""
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class ApiUnavailable(KubernetesError):  # noqa: N818 - it names a state of the API server
    """The API server could not be reached, did not answer in time, or answered 429 or 5xx."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        """`retry_after`: seconds that the API server asks to wait, where it does."""
        super().__init__(message)
        self.retry_after = retry_after


def error_of(status: int, body: Mapping[str, Any], *, retry_after: float | None = None) -> ApiError | ApiUnavailable:
    """Make the error that an answer stands for; `body` is a metav1.Status, or anything else."""
    reason, message = body.get("reason"), body.get("message")
    reason = reason[:_MESSAGE_LIMIT] if isinstance(reason, str) else "Unknown"
    message = message[:_MESSAGE_LIMIT] if isinstance(message, str) else "no message"
    if status == _TOO_MANY_REQUESTS or not _UNDERSTOOD <= status < _SERVER_ERRORS:
        return ApiUnavailable(f"the API server answered {status} {reason}: {message}", retry_after=retry_after)
    return ApiError(status, reason, message)


_UNDERSTOOD = 400
"""From here to 499 the API server has understood what was asked, and says no."""

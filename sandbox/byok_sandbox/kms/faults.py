"""The errors that KMS and STS answer: code, message and HTTP status, as their API references list them.

KMS's names are the base; STS's query protocol has names of its own for the same faults of authentication. Which of
them are answered because somebody ordered it, is told by `injection`.
"""

from collections.abc import Mapping
from types import MappingProxyType

# Everything else is the caller's fault: 400 (AWS KMS API reference, "Common Errors").
_KMS_STATUS: Mapping[str, int] = MappingProxyType(
    {
        "DependencyTimeoutException": 503,
        "InternalFailure": 500,
        "KMSInternalException": 500,
        "KeyUnavailableException": 500,
        "ServiceUnavailable": 503,
    },
)
_UNAUTHENTICATED = frozenset(
    {
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "UnrecognizedClientException",
    },
)
_STS_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "AccessDeniedException": "AccessDenied",
        "ExpiredTokenException": "ExpiredToken",
        "IncompleteSignatureException": "IncompleteSignature",
        "InvalidSignatureException": "SignatureDoesNotMatch",
        "MalformedPolicyDocumentException": "MalformedPolicyDocument",
        "MissingAuthenticationTokenException": "MissingAuthenticationToken",
        "ThrottlingException": "Throttling",
        "UnknownOperationException": "InvalidAction",
        "UnrecognizedClientException": "InvalidClientTokenId",
        "ValidationException": "ValidationError",
    },
)
_STS_FORBIDDEN = frozenset(
    {"AccessDenied", "ExpiredToken", "InvalidClientTokenId", "MissingAuthenticationToken", "SignatureDoesNotMatch"},
)


class AwsFaultError(Exception):
    """A request that AWS would refuse, by the name that KMS has for it."""

    def __init__(self, code: str, message: str, *, status: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self._status = status

    @property
    def kms_status(self) -> int:
        """HTTP status of KMS's answer."""
        return self._status or _KMS_STATUS.get(self.code, 400)

    @property
    def sts_code(self) -> str:
        """STS's name for it."""
        return _STS_NAMES.get(self.code, self.code)

    @property
    def sts_status(self) -> int:
        """HTTP status of STS's answer."""
        return 403 if self.sts_code in _STS_FORBIDDEN and self._status is None else self.kms_status

    @property
    def names_nobody(self) -> bool:
        """Whether it is not known whose request it was, so that CloudTrail has no event of it."""
        return self.code in _UNAUTHENTICATED

    @property
    def event_code(self) -> str:
        """`errorCode` in CloudTrail, which drops the suffix of a denial only."""
        return "AccessDenied" if self.code == "AccessDeniedException" else self.code


def invalid_value(value: str, member: str, constraint: str) -> AwsFaultError:
    """Make the error that AWS's model validation answers for one member."""
    return AwsFaultError(
        "ValidationException",
        f"1 validation error detected: Value '{value[:80]}' at '{member}' failed to satisfy constraint: {constraint}",
    )

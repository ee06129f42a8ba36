"""The errors that KMS and STS answer: code, message and HTTP status, as their API references list them.

KMS's names are the base; STS's query protocol has names of its own for the same faults of authentication.
"""

from collections.abc import Mapping
from types import MappingProxyType

# Everything else is the caller's fault: 400 (AWS KMS API reference, "Common Errors").
_KMS_STATUS: Mapping[str, int] = MappingProxyType(
    {"KMSInternalException": 500, "DependencyTimeoutException": 503, "KeyUnavailableException": 500},
)
_STS_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "AccessDeniedException": "AccessDenied",
        "ExpiredTokenException": "ExpiredToken",
        "IncompleteSignatureException": "IncompleteSignature",
        "InvalidSignatureException": "SignatureDoesNotMatch",
        "MalformedPolicyDocumentException": "MalformedPolicyDocument",
        "MissingAuthenticationTokenException": "MissingAuthenticationToken",
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

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    @property
    def kms_status(self) -> int:
        """HTTP status of KMS's answer."""
        return _KMS_STATUS.get(self.code, 400)

    @property
    def sts_code(self) -> str:
        """STS's name for it."""
        return _STS_NAMES.get(self.code, self.code)

    @property
    def sts_status(self) -> int:
        """HTTP status of STS's answer."""
        return 403 if self.sts_code in _STS_FORBIDDEN else self.kms_status

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

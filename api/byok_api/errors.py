"""Everything that is refused, by reason.

    Refusal                 any refusal that a user may read: a reason, a message, details
    `- ClaimRefusal         the claim guard's: names the check, what was found, what was expected

Bugs are not refusals: they raise whatever Python raises.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from grpc import StatusCode

ERROR_DOMAIN = "byok.dev"
"""`google.rpc.ErrorInfo.domain` of every error of the signer."""


@dataclass(frozen=True)
class ReasonFacts:
    """What a reason means to the person who reads it."""

    status: StatusCode
    """gRPC status code; for reasons raised by the client, the nearest one."""
    cause: str
    remedy: str


_row = ReasonFacts


class Reason(Enum):
    """A refusal's name, stable across versions: `ErrorInfo.reason`, `reason` in audit records and metrics."""

    # Who is calling.
    TokenMissing = _row(
        StatusCode.UNAUTHENTICATED,
        "The call carries no bearer token.",
        "Mount a projected ServiceAccount token with audience byok-signer; send it as 'authorization: Bearer <token>'.",
    )
    TokenInvalid = _row(
        StatusCode.UNAUTHENTICATED,
        "The token is malformed, signed by an unknown key, for another audience or issuer, or no ServiceAccount's.",
        "Use a projected ServiceAccount token of this cluster with audience byok-signer.",
    )
    TokenExpired = _row(
        StatusCode.UNAUTHENTICATED,
        "The token has expired, or is not valid yet.",
        "Read the token file again: the kubelet rotates it. If it is fresh, compare the clocks.",
    )
    IssuerUnavailable = _row(
        StatusCode.UNAVAILABLE,
        "The token issuer's keys could not be read.",
        "The platform team checks the signer's issuer settings and that the API server is reachable.",
    )
    ClusterUnavailable = _row(
        StatusCode.UNAVAILABLE,
        "The API server could not be asked about this caller, who was not known before.",
        "Retry after the given delay; the platform team checks that the signer reaches the API server.",
    )
    # What is asked for.
    InvalidRequest = _row(
        StatusCode.INVALID_ARGUMENT,
        "A field of the request is missing or malformed.",
        "Correct the field that the message names.",
    )
    RecipeNotAllowed = _row(
        StatusCode.PERMISSION_DENIED,
        "There is no such recipe, or the caller may not use it; both are answered alike.",
        "Check namespace, name and version of the recipe, and that the caller's namespace may use it.",
    )
    KeyNotAllowed = _row(
        StatusCode.PERMISSION_DENIED,
        "The key does not admit the recipe's namespace or the caller's.",
        "The key's owner adds the namespace to spec.allowedConsumers of the ByokKey.",
    )
    ProbeNotAllowed = _row(
        StatusCode.PERMISSION_DENIED,
        "There is no such key, or the caller may not probe it; both are answered alike.",
        "Call as an account with the right to probe it (without a cluster: of its namespace); check the key's name.",
    )
    CertifyNotAllowed = _row(
        StatusCode.PERMISSION_DENIED,
        "There is no such key, or the caller may not request certificates for it; both are answered alike.",
        "Bind the ClusterRole byok-key-owner in the key's namespace, and check the key's name.",
    )
    RecipeChanged = _row(
        StatusCode.FAILED_PRECONDITION,
        "The recipe is not the one that the manifest was composed under.",
        "Fetch the recipe again, rebuild the manifest, try once more; the SDK does.",
    )
    RecipeInvalid = _row(
        StatusCode.FAILED_PRECONDITION,
        "The recipe cannot be resolved: an invalid spec, an unknown or wrong parent, a cycle.",
        "The recipe's owner corrects what the message names.",
    )
    RecipeWithoutKey = _row(
        StatusCode.FAILED_PRECONDITION,
        "The recipe names no key, and so can only be extended.",
        "Use a recipe that sets keyRef.",
    )
    SigningDisabled = _row(
        StatusCode.FAILED_PRECONDITION,
        "The recipe sets c2pa.enabled to false.",
        "Use a recipe with c2pa.enabled: true.",
    )
    # The key and its certificate.
    KeyMissing = _row(
        StatusCode.FAILED_PRECONDITION,
        "The ByokKey that the recipe names does not exist.",
        "Apply the ByokKey, or correct keyRef.",
    )
    KeyInvalid = _row(
        StatusCode.FAILED_PRECONDITION,
        "The ByokKey's spec is invalid or asks for what this version refuses.",
        "The key's owner corrects what the message names.",
    )
    KeyDeactivated = _row(
        StatusCode.FAILED_PRECONDITION,
        "The key's owner has deactivated it.",
        "The key's owner sets spec.state: Active.",
    )
    KeyClaimedElsewhere = _row(
        StatusCode.FAILED_PRECONDITION,
        "An older ByokKey in another namespace names the same KMS key, by ARN or by its public key.",
        "Use that one, with allowedConsumers, or remove it.",
    )
    KeyOwnershipDenied = _row(
        StatusCode.FAILED_PRECONDITION,
        "The installation does not let this namespace name this KMS key.",
        "Use a key of this namespace's own, or have the platform team add the ARN to the installation's keyOwnership.",
    )
    AcknowledgementMissing = _row(
        StatusCode.FAILED_PRECONDITION,
        "The installation demands that the key's owner accepts its terms, and the ByokKey does not.",
        "The key's owner reads the terms and sets spec.acknowledgement.",
    )
    RequiredRecipeMissing = _row(
        StatusCode.FAILED_PRECONDITION,
        "The key demands a recipe in the lineage of every recipe that uses it.",
        "Extend the recipe that the message names.",
    )
    CertificateMissing = _row(
        StatusCode.FAILED_PRECONDITION,
        "The key has no certificate yet.",
        "Have the key certified and register the chain in spec.certificate.",
    )
    CertificateInvalid = _row(
        StatusCode.FAILED_PRECONDITION,
        "The certificate breaks a rule of C2PA's certificate profile.",
        "Have a certificate issued that meets the rule that the message names.",
    )
    CertificateExpired = _row(
        StatusCode.FAILED_PRECONDITION,
        "The certificate has expired, or is not valid yet.",
        "Register a valid certificate. A new certificate takes a new KMS key (C2PA certificate policy).",
    )
    CertificateMismatch = _row(
        StatusCode.FAILED_PRECONDITION,
        "The KMS key's public key is not the one in the registered certificate.",
        "Register the certificate of this KMS key, or name the KMS key of this certificate.",
    )
    CertificateChanged = _row(
        StatusCode.FAILED_PRECONDITION,
        "The claim carries another certificate chain than the key's registered one.",
        "Fetch the recipe again, rebuild the manifest, try once more; the SDK does.",
    )
    # What is to be signed.
    ClaimRefused = _row(
        StatusCode.INVALID_ARGUMENT,
        "What is to be signed is not a well-formed C2PA claim for this key.",
        "Sign claims made by a C2PA library, with the chain and algorithm of GetRecipe; the message names the check.",
    )
    RecipeNotMet = _row(
        StatusCode.FAILED_PRECONDITION,
        "The claim is well formed but does not meet the recipe.",
        "Add or remove what the message names.",
    )
    DigestMismatch = _row(
        StatusCode.INVALID_ARGUMENT,
        "The digest is not that of its evidence, or of the wrong length.",
        "Hash the Sig_structure with the hash of the key's algorithm.",
    )
    EvidenceMissing = _row(
        StatusCode.FAILED_PRECONDITION,
        "A digest came without its Sig_structure, and the key does not allow that.",
        "Send the Sig_structure as evidence, or use SignClaim.",
    )
    MessageTooLong = _row(
        StatusCode.INVALID_ARGUMENT,
        "KMS takes at most 4,096 bytes with Ed25519, which signs the message itself.",
        "Use a shorter certificate chain, fewer assertions, or a key with another algorithm.",
    )
    # What KMS says.
    KeyAccessDenied = _row(
        StatusCode.UNAVAILABLE,
        "KMS or STS denies the signer the key: never granted, or revoked.",
        "The key's owner pastes what byokctl key policy prints: into the key policy or, where sts:AssumeRole is denied,"
        " into the role's trust policy.",
    )
    KeyDisabled = _row(
        StatusCode.FAILED_PRECONDITION,
        "The KMS key is disabled.",
        "The key's owner enables it.",
    )
    KeyInvalidState = _row(
        StatusCode.FAILED_PRECONDITION,
        "The KMS key is pending deletion, pending import, or otherwise cannot be used.",
        "The key's owner cancels the deletion or finishes the import.",
    )
    KeyNotFound = _row(
        StatusCode.FAILED_PRECONDITION,
        "KMS knows no such key or alias.",
        "The key's owner corrects keyArn.",
    )
    KeyUsageInvalid = _row(
        StatusCode.FAILED_PRECONDITION,
        "The KMS key cannot sign with the algorithm: another usage or key spec.",
        "Use a key with usage SIGN_VERIFY and a spec that C2PA allows.",
    )
    GrantTokenInvalid = _row(
        StatusCode.FAILED_PRECONDITION,
        "KMS refuses the grant token.",
        "The key's owner grants anew.",
    )
    PermissionsTooBroad = _row(
        StatusCode.FAILED_PRECONDITION,
        "A probe on request found that the signer may do more with the KMS key than it needs.",
        "The key's owner takes all but kms:Sign and kms:GetPublicKey from the signer's role.",
    )
    QuotaExceeded = _row(
        StatusCode.RESOURCE_EXHAUSTED,
        "More is asked for than the signer's share of the account's KMS quota, and the queue for it is full.",
        "Retry after the given delay; the platform team asks AWS for a higher quota, then raises --quota-per-second.",
    )
    KeyRateLimited = _row(
        StatusCode.RESOURCE_EXHAUSTED,
        "The key's rateLimit is used up.",
        "Retry after the given delay; the key's owner may raise spec.rateLimit.",
    )
    KmsThrottled = _row(
        StatusCode.RESOURCE_EXHAUSTED,
        "The account's KMS quota is used up.",
        "Retry after the given delay; the platform team asks AWS for a higher quota.",
    )
    KmsUnavailable = _row(
        StatusCode.UNAVAILABLE,
        "KMS could not be reached or failed.",
        "Retry after the given delay; if it lasts, check network policy, endpoint and AWS's health dashboard.",
    )
    KmsDeadlineExceeded = _row(
        StatusCode.DEADLINE_EXCEEDED,
        "The caller's deadline passed before KMS answered.",
        "Retry with a longer deadline.",
    )
    SignerCredentialsInvalid = _row(
        StatusCode.INTERNAL,
        "The signer has no valid AWS credentials.",
        "The platform team checks the role annotation of the signer's ServiceAccount.",
    )
    SignerClockSkewed = _row(
        StatusCode.INTERNAL,
        "AWS refuses the signer's requests because its clock is wrong.",
        "The platform team corrects the node's clock.",
    )
    KmsAnswerInvalid = _row(
        StatusCode.INTERNAL,
        "KMS answered for another key, or with a signature that does not verify.",
        "Nothing was released. Check whether an alias or endpoint has moved.",
    )
    # The signer itself.
    CallerLimited = _row(
        StatusCode.RESOURCE_EXHAUSTED,
        "The caller has as many calls, streams or bytes under way as one caller may have.",
        "Retry after the given delay; send several claims in one stream, or run fewer jobs under one ServiceAccount.",
    )
    AnswersNotRead = _row(
        StatusCode.RESOURCE_EXHAUSTED,
        "The caller does not read the answers of its stream.",
        "Read a stream's answers while sending; those not read yet are in the audit trail.",
    )
    AuditUnavailable = _row(
        StatusCode.UNAVAILABLE,
        "The audit record could not be written, and nothing is signed without one.",
        "The platform team checks the audit file's disk.",
    )
    ShuttingDown = _row(
        StatusCode.UNAVAILABLE,
        "This signer is about to stop.",
        "Retry; another replica answers.",
    )
    GenerationNotSeen = _row(
        StatusCode.UNAVAILABLE,
        "The signer has not seen this generation of the object yet.",
        "Retry after the given delay.",
    )
    CatalogueStale = _row(
        StatusCode.UNAVAILABLE,
        "The API server has not been heard of for longer than the key's staleAfter.",
        "Retry after the given delay; the platform team checks that the signer reaches the API server.",
    )
    Internal = _row(
        StatusCode.INTERNAL,
        "The signer met an error that it did not foresee.",
        "Report it with the request id; the signer's log has the details.",
    )
    # The client's own.
    SignerUnreachable = _row(
        StatusCode.UNAVAILABLE,
        "The signer could not be reached within the deadline.",
        "Check BYOK_SIGNER_ADDRESS, BYOK_SIGNER_CA_FILE and the network policy.",
    )
    ConfigurationInvalid = _row(
        StatusCode.INVALID_ARGUMENT,
        "The client's settings are missing or wrong.",
        "Set what the message names.",
    )
    ObjectNotFound = _row(
        StatusCode.NOT_FOUND,
        "The cluster has no object of that name.",
        "Check namespace and name.",
    )
    ClusterRefused = _row(
        StatusCode.PERMISSION_DENIED,
        "The API server refused what was asked of it.",
        "Check your rights (kubectl auth can-i) and what the message names.",
    )
    MetadataMissing = _row(
        StatusCode.INVALID_ARGUMENT,
        "A required assertion has no value, and none can be derived.",
        "Pass it in metadata, or have the recipe give a default.",
    )
    MetadataInvalid = _row(
        StatusCode.INVALID_ARGUMENT,
        "A metadata value is unknown, of the wrong type or too large.",
        "Correct the value that the message names (docs/reference/assertions.md).",
    )
    AssetUnreadable = _row(
        StatusCode.INVALID_ARGUMENT,
        "The asset is missing, empty, damaged or of an unsupported type.",
        "Pass a readable file of a supported type.",
    )
    MediaTypeMismatch = _row(
        StatusCode.INVALID_ARGUMENT,
        "The asset is not of the recipe's media type.",
        "Use a recipe for this kind of media.",
    )
    InputManifestInvalid = _row(
        StatusCode.FAILED_PRECONDITION,
        "The asset already has a manifest, and it does not verify: the asset was altered after it was signed.",
        "Use the unaltered asset, or say that the history may be kept as it is (allow_invalid_input).",
    )
    OutputUnwritable = _row(
        StatusCode.FAILED_PRECONDITION,
        "The output could not be written; the input and any file already there are as they were.",
        "Check the folder, its permissions and its free space, or pass overwrite.",
    )
    SigningFailed = _row(
        StatusCode.INTERNAL,
        "The C2PA library failed to build or embed the manifest.",
        "The message carries the library's own words.",
    )

    @property
    def facts(self) -> ReasonFacts:
        """Status, cause and remedy."""
        facts: ReasonFacts = self.value
        return facts


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not an error of this program
    """A request was refused; str() says what, by which rule and for which object, in one sentence."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        """Seconds after which a retry may succeed; None where waiting does not help."""
        self.metadata: Mapping[str, str] = metadata or {}
        """`ErrorInfo.metadata`: names of objects and checks, never contents."""


class ClaimRefusal(Refusal):
    """The claim guard refused; `check` names the rule that did."""

    def __init__(self, reason: Reason, check: str, *, found: str, expected: str) -> None:
        super().__init__(
            reason,
            f"check {check}: found {found}, expected {expected}",
            metadata={"check": check, "found": found, "expected": expected},
        )
        self.check = check
        self.found = found
        self.expected = expected

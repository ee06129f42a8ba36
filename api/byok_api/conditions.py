"""What `status` says of an object: condition types, their reasons, phases."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from byok_api.fields import Described, Model


class ByokKeyConditionType(Described):
    """Conditions of a ByokKey; `Ready` sums up the others."""

    ACCEPTED = "Accepted", "The spec is valid and asks for nothing that this version refuses."
    RESOLVED = "Resolved", "KMS gave the public key."
    SIGN_GRANTED = "SignGranted", "KMS would sign for the signer's identity (Sign with DryRun)."
    USABLE = "Usable", "Key state, usage and spec fit C2PA."
    CERTIFICATE_READY = "CertificateReady", "The registered certificate is valid, passes the lint and is this key's."
    LEAST_PRIVILEGE = "LeastPrivilege", "The signer's identity may do nothing more than it needs."
    READY = "Ready", "All that a signature needs holds, as far as the operator can tell."


class SigningRecipeConditionType(Described):
    """Conditions of a SigningRecipe; `Ready` sums up the others."""

    ACCEPTED = "Accepted", "The spec is valid and asks for nothing that this version refuses."
    PARENT_RESOLVED = "ParentResolved", "Every recipe that it extends is there, in the version asked for."
    KEY_AUTHORIZED = "KeyAuthorized", "The key exists and admits this recipe."
    READY = "Ready", "All that a signature needs holds, as far as the operator can tell."


class ConditionStatus(StrEnum):
    """Unknown means that it could not be found out, never that it is false."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class ConditionReason(Described):
    """Reasons that are no refusals; those of a False condition are `byok_api.errors.Reason`."""

    VERIFIED = "Verified", "The check passed when it was last made."
    LAST_VERIFIED = "LastVerified", "The check cannot be made now; it passed less than staleAfter ago."
    STALE = "Stale", "The check has not been made for longer than staleAfter."
    VALIDATING = "Validating", "The check has not been made yet."
    NOT_REQUESTED = "NotRequested", "The spec does not ask for the check."
    NOT_CHECKED = "NotChecked", "The check cannot be made before something else holds, which the message names."
    NO_PARENT = "NoParent", "The recipe extends nothing."
    NO_KEY = "NoKey", "The recipe names no key: it can be extended and cannot sign."


class Phase(StrEnum):
    """A ByokKey's conditions in one word."""

    VALIDATING = "Validating"
    ACTIVE = "Active"
    FAILED = "Failed"
    DEACTIVATED = "Deactivated"


class Condition(Model):
    """One condition, as `metav1.Condition` has it (Kubernetes API conventions, typical status properties)."""

    type: Annotated[str, Field(pattern=r"^[A-Za-z]{1,63}$", max_length=63, description="What is said to hold or not.")]
    status: Annotated[ConditionStatus, Field(description="Whether it holds.")]
    reason: Annotated[
        str,
        Field(pattern=r"^[A-Za-z]{1,63}$", max_length=63, description="Why, in one word (docs/reference/errors.md)."),
    ]
    message: Annotated[str, Field(max_length=2048, description="Why, and what to do about it.")]
    last_transition_time: Annotated[datetime, Field(description="When the status last changed.")]
    observed_generation: Annotated[
        int | None,
        Field(ge=0, description="metadata.generation of the spec that was judged."),
    ] = None

"""Which recipe or key a caller means, and whether that caller may use it.

Whether the caller has the right is `Access`'s decision; here it is put together with the catalogue, so that whoever has
no right is told nothing of what is there.
"""

from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName, RecipeReference
from byok_signer.access import Decision, Right
from byok_signer.authentication import Caller
from byok_signer.entries import Catalogue, KeyEntry, Refused, SigningEntry

SIGN, PROBE, CERTIFY = "sign", "probe", "certify"
"""Verbs (RBAC) on recipes, and on keys."""
RECIPES, KEYS = "signingrecipes", "byokkeys"

_KEY_REFUSALS = {
    PROBE: (Reason.ProbeNotAllowed, "probe it"),
    CERTIFY: (Reason.CertifyNotAllowed, "request certificates for it"),
}


def right_to_sign(caller: Caller, recipe: str) -> tuple[RecipeReference, Right]:
    """Read how a caller names a recipe, and say what right that takes; Refusal InvalidRequest."""
    try:
        reference = RecipeReference.parse(recipe)
    except ValueError as error:
        raise Refusal(Reason.InvalidRequest, f"recipe: {error}") from None
    return reference, Right(SIGN, RECIPES, ObjectName(reference.namespace or caller.namespace, reference.name))


def authorize(
    catalogue: Catalogue, caller: Caller, name: ObjectName, version: int | None, *, allowed: bool
) -> SigningEntry:
    """Find the recipe that a caller names, if that caller is allowed to use it.

    Refusal RecipeNotAllowed is the same whether the recipe is unknown, of another version, or not for this caller; what
    else stands against a recipe (`Refused`) is told only to those who may use it.
    """
    entry = catalogue.recipes.get(name) if allowed else None
    if entry is None or (version is not None and entry.version not in (None, version)):
        label = f"{name}@{version}" if version else str(name)
        raise Refusal(
            Reason.RecipeNotAllowed,
            f"recipe {label}: there is no such recipe, or {caller.username} may not use it",
            metadata={"recipe": label},
        )
    if isinstance(entry, Refused):
        raise entry.refusal()
    if not catalogue.admits(entry.key, caller.namespace):
        raise key_not_allowed(entry.key, caller.namespace)
    return entry


def authorize_key(catalogue: Catalogue, caller: Caller, right: Right, decision: Decision) -> KeyEntry:
    """Find the key that a right is about, if the caller was found to have it (Access.check).

    Refusal ProbeNotAllowed or CertifyNotAllowed is the same whether the key is unknown or not for this caller.
    """
    if right.name is None:
        raise AssertionError("this right is on all keys")
    entry = catalogue.keys.get(right.name) if decision.allowed else None
    if entry is None:
        reason, doing = _KEY_REFUSALS[right.verb]
        raise Refusal(
            reason,
            f"key {right.name}: there is no such key, or {caller.username} may not {doing}",
            metadata={"key": str(right.name)},
        )
    if isinstance(entry, Refused):
        raise entry.refusal()
    return entry


def key_not_allowed(key: KeyEntry, namespace: str) -> Refusal:
    """Say that a key's owner has not admitted a namespace."""
    return Refusal(
        Reason.KeyNotAllowed,
        f"key {key.name} does not admit namespace {namespace}; its owner adds it to spec.allowedConsumers",
        metadata={"key": str(key.name), "namespace": namespace},
    )

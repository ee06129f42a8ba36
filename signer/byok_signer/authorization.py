"""Who may use which recipe: until the cluster decides (SubjectAccessReview), callers of the recipe's own namespace."""

from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName, RecipeReference
from byok_signer.authentication import Caller
from byok_signer.entries import Catalogue, KeyEntry, Refused, SigningEntry


def authorize(catalogue: Catalogue, caller: Caller, recipe: str) -> SigningEntry:
    """Find the recipe that a caller names and may use.

    Refusal RecipeNotAllowed is the same whether the recipe is unknown, of another version, or another namespace's; what
    else stands against a recipe (`Refused`) is told only to those who may use it.
    """
    try:
        reference = RecipeReference.parse(recipe)
    except ValueError as error:
        raise Refusal(Reason.InvalidRequest, f"recipe: {error}") from None
    namespace = reference.namespace or caller.namespace
    name = ObjectName(namespace, reference.name)
    entry = catalogue.recipes.get(name) if namespace == caller.namespace else None
    if entry is None or (reference.version is not None and entry.version not in (None, reference.version)):
        version = f"@{reference.version}" if reference.version else ""
        raise Refusal(
            Reason.RecipeNotAllowed,
            f"recipe {name}{version}: there is no such recipe, or {caller.username} may not use it",
            metadata={"recipe": f"{name}{version}"},
        )
    if isinstance(entry, Refused):
        raise entry.refusal()
    if not catalogue.admits(entry.key, caller.namespace):
        raise key_not_allowed(entry.key, caller.namespace)
    return entry


def authorize_probe(catalogue: Catalogue, caller: Caller, name: ObjectName) -> KeyEntry:
    """Find a key that a caller may probe: one of the caller's own namespace; unknown and foreign are answered alike."""
    entry = catalogue.keys.get(name) if name.namespace == caller.namespace else None
    if entry is None:
        raise Refusal(
            Reason.ProbeNotAllowed,
            f"key {name}: there is no such key, or {caller.username} may not probe it",
            metadata={"key": str(name)},
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

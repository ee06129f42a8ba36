"""What a ByokKey's owner agreed to: whose use of it, and under which recipe."""

from collections.abc import Iterable, Mapping

from byok_api.byokkey import ByokKey
from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName, RecipeReference


def admits(key: ByokKey, namespace: str, labels: Mapping[str, str] | None) -> bool:
    """Say whether the key's owner admits a namespace, be it a recipe's or a caller's.

    The key's own namespace always is. `labels` are the namespace's (`objects.Namespace.labels`); None, a namespace that
    nobody has described, matches no selector, not even a negative one.
    """
    if namespace == key.metadata.namespace:
        return True
    consumers = key.spec.allowed_consumers
    if consumers is None:
        return False
    selector = consumers.namespace_selector
    return namespace in (consumers.namespaces or ()) or (
        selector is not None and labels is not None and selector.matches(labels)
    )


def check_required_recipe(
    key: ByokKey,
    lineage: Iterable[tuple[ObjectName, int]],
    *,
    presets_namespace: str,
) -> None:
    """Demand that the recipe which the key's owner requires is in a lineage: the recipe itself and its parents.

    Matched by namespace, name and version. Raises Refusal: RequiredRecipeMissing, or KeyInvalid where the key names a
    namespace that is neither the presets' nor its own (anybody could put a recipe of that name there).
    """
    if key.spec.required_recipe is None:
        return
    try:
        required = RecipeReference.parse(key.spec.required_recipe)
    except ValueError as error:
        raise Refusal(Reason.KeyInvalid, f"ByokKey {key.name}: requiredRecipe: {error}; correct it") from None
    namespace = required.namespace or presets_namespace
    if namespace not in {presets_namespace, key.metadata.namespace}:
        raise Refusal(
            Reason.KeyInvalid,
            f"ByokKey {key.name}: requiredRecipe {required} must be in the presets' namespace ({presets_namespace}) "
            f"or the key's own ({key.metadata.namespace})",
        )
    wanted = ObjectName(namespace, required.name)
    if (wanted, required.version) not in set(lineage):
        raise Refusal(
            Reason.RequiredRecipeMissing,
            f"ByokKey {key.name} requires recipe {wanted}@{required.version}, which the recipe neither is nor extends; "
            f"extend it",
        )

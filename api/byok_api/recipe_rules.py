"""What a SigningRecipe amounts to, with all that it extends and the key it names: ordered lists of small named checks.

`RECIPE_CHECKS` is the order in which users are told what stands against a recipe. The caller, the moment and KMS are
heard later.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from byok_api.consent import admits, check_required_recipe
from byok_api.errors import Reason, Refusal
from byok_api.installation import Rules
from byok_api.key_rules import Fault, KeyStanding, Problem
from byok_api.objects import Unreadable
from byok_api.references import ObjectName
from byok_api.resolution import EffectiveRecipe, Find, ParentRefusal, Resolver
from byok_api.signingrecipe import KmsMode, SigningRecipe


@dataclass(frozen=True)
class Resolution:
    """A recipe with all that it extends, or why there is no such thing; its key has not been looked at."""

    recipe: SigningRecipe
    effective: EffectiveRecipe | None
    acceptance: Problem | None
    parents: Problem | None


@dataclass(frozen=True)
class RecipeStanding:
    """What a valid SigningRecipe amounts to; KMS and its callers have not been heard yet."""

    recipe: SigningRecipe
    effective: EffectiveRecipe | None
    """None if it cannot be resolved."""
    acceptance: Problem | None
    """What stands against the spec itself: a reserved name, or fields that contradict inherited ones."""
    parents: Problem | None
    """What stands against what it extends: unknown, unreadable, of another version, a cycle, too deep."""
    authorization: Problem | None
    """Why there is no key, or its owner does not let this recipe use it; None while it cannot be resolved."""
    admitted: bool
    """Whether the key that it names is there, and its owner admits the recipe's namespace."""
    key_problem: Problem | None
    """What stands against the key itself; told only where its owner admits the recipe's namespace."""
    problem: Problem | None
    """What its users are told: the first of all that stands against it; None if it can sign."""

    @property
    def name(self) -> ObjectName:
        """The SigningRecipe's name."""
        return self.recipe.name

    @property
    def key(self) -> ObjectName | None:
        """The ByokKey that it names, there or not."""
        return self.effective.key if self.effective else None


@dataclass(frozen=True)
class RecipeFacts:
    """What the checks are made on."""

    recipe: EffectiveRecipe
    key: KeyStanding | Unreadable | None
    labels: Mapping[str, str] | None
    """Those of the recipe's namespace; None if nobody has described it."""
    rules: Rules


RecipeCheck = Callable[[RecipeFacts], Fault | None]


def _is_enabled(facts: RecipeFacts) -> Fault | None:
    return None if facts.recipe.enabled else (Reason.SigningDisabled, "has c2pa.enabled: false")


def _names_a_key(facts: RecipeFacts) -> Fault | None:
    if facts.recipe.key is None and facts.recipe.kms_mode is KmsMode.MANAGED:
        return Reason.RecipeWithoutKey, "has kmsMode: managed, and this installation names no managed key"
    if facts.recipe.key is None:
        return Reason.RecipeWithoutKey, "names no key: it can be extended and cannot sign"
    return None


def _key_exists(facts: RecipeFacts) -> Fault | None:
    name = facts.recipe.key
    if facts.key is None and name is not None and name.namespace == facts.recipe.name.namespace:
        return Reason.KeyMissing, f"names the key {name}, which is not there"
    return None


def _key_admits_recipe(facts: RecipeFacts) -> Fault | None:
    # One answer for a foreign key that is not there and one that is not shared: nobody learns of another's keys.
    name, namespace = facts.recipe.key, facts.recipe.name.namespace
    if name is None or name.namespace == namespace:
        return None
    if isinstance(facts.key, KeyStanding) and admits(facts.key.key, namespace, facts.labels):
        return None
    return Reason.KeyNotAllowed, f"names the key {name}, which is not there or does not admit namespace {namespace}"


def _key_can_sign(facts: RecipeFacts) -> Fault | None:
    problem = facts.key if isinstance(facts.key, Unreadable) else facts.key.problem if facts.key else None
    return None if problem is None else (problem.reason, f"cannot sign: {problem.message}")


def _required_recipe_is_in_lineage(facts: RecipeFacts) -> Fault | None:
    if not isinstance(facts.key, KeyStanding):
        return None
    lineage = [(facts.recipe.name, facts.recipe.version)]
    lineage += [(parent.name, parent.version) for parent in facts.recipe.lineage]
    try:
        check_required_recipe(facts.key.key, lineage, presets_namespace=facts.rules.presets_namespace)
    except Refusal as refusal:
        return refusal.reason, f"cannot sign: {refusal.message}"
    return None


RECIPE_CHECKS: tuple[RecipeCheck, ...] = (
    _is_enabled,
    _names_a_key,
    _key_exists,
    _key_admits_recipe,
    _key_can_sign,
    _required_recipe_is_in_lineage,
)
AUTHORIZATION_CHECKS: tuple[RecipeCheck, ...] = (
    _names_a_key,
    _key_exists,
    _key_admits_recipe,
    _required_recipe_is_in_lineage,
)


def resolve_recipe(recipe: SigningRecipe, find: Find, resolver: Resolver) -> Resolution:
    """Resolve a recipe through all that it extends; `find` as `Resolver.resolve` takes it. Total."""
    try:
        effective = resolver.resolve(recipe, find)
    except ParentRefusal as refusal:
        return Resolution(recipe, None, None, Problem(refusal.reason, refusal.message))
    except Refusal as refusal:
        return Resolution(recipe, None, Problem(refusal.reason, refusal.message), None)
    return Resolution(recipe, effective, None, None)


def judge_recipe(
    resolution: Resolution,
    key: KeyStanding | Unreadable | None,
    labels: Mapping[str, str] | None,
    rules: Rules,
) -> RecipeStanding:
    """Judge a resolved recipe by the key that it names; `labels` are those of the recipe's namespace."""
    acceptance = resolution.acceptance
    if resolution.recipe.metadata.deletion_timestamp is not None:
        acceptance = Problem(Reason.RecipeInvalid, f"recipe {resolution.recipe.name} is being deleted")
    authorization = key_problem = problem = None
    admitted = False
    if resolution.effective is not None:
        facts = RecipeFacts(resolution.effective, key, labels, rules)
        authorization = _first_problem(AUTHORIZATION_CHECKS, facts)
        admitted = _first_problem((_names_a_key, _key_exists, _key_admits_recipe), facts) is None
        key_problem = _first_problem((_key_can_sign,), facts) if admitted else None
        problem = _first_problem(RECIPE_CHECKS, facts)
    return RecipeStanding(
        recipe=resolution.recipe,
        effective=resolution.effective,
        acceptance=acceptance,
        parents=resolution.parents,
        authorization=authorization,
        admitted=admitted,
        key_problem=key_problem,
        problem=acceptance or resolution.parents or problem,
    )


def _first_problem(checks: tuple[RecipeCheck, ...], facts: RecipeFacts) -> Problem | None:
    found = next(filter(None, (check(facts) for check in checks)), None)
    return Problem(found[0], f"recipe {facts.recipe.name} {found[1]}") if found else None

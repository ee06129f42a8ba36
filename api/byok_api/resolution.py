"""Recipes resolved: from a recipe and its parents to what holds in the end. Pure: every part shares it."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import rfc8785

from byok_api.assertions import ASSERTIONS
from byok_api.errors import Reason, Refusal
from byok_api.inheritance import Merge, content, recorded
from byok_api.presets import RESERVED_NAMES
from byok_api.recorded import Anchoring, Billing, RecipeVerification, Retention, SoftBinding, Watermark
from byok_api.references import ObjectName, RecipeReference
from byok_api.shapes import Json
from byok_api.signingrecipe import (
    MAXIMUM_DEPTH,
    C2pa,
    Ingredients,
    KmsMode,
    MediaType,
    SignerPinning,
    SigningRecipe,
    SigningRecipeSpec,
)

Find = Callable[[ObjectName], SigningRecipe | None]


class ParentRefusal(Refusal):
    """A recipe cannot be resolved because of what it extends, near or far."""


@dataclass(frozen=True)
class LineageEntry:
    """A parent, near or far."""

    name: ObjectName
    version: int
    hash: str
    """Its own effective hash."""


@dataclass(frozen=True)
class EffectiveRecipe:
    """A recipe after inheritance, with the defaults filled in."""

    name: ObjectName
    version: int
    media_type: MediaType | None
    enabled: bool
    assertions: tuple[str, ...]
    """Names that every asset must carry, sorted."""
    optional_assertions: tuple[str, ...]
    """Names that it may carry, sorted, without the required ones."""
    defaults: Mapping[str, Json]
    """Metadata values by assertion name, in canonical form."""
    allowed_labels: tuple[str, ...]
    """Assertion labels beyond the table's and the standard's; empty for none."""
    require_ingredient_chain: bool
    forbid_ingredients: bool
    kms_mode: KmsMode
    key: ObjectName | None
    """None for a recipe that can be extended and cannot sign."""
    timestamp_url: str | None
    watermark: Watermark | None
    soft_binding: SoftBinding | None
    anchoring: Anchoring | None
    retention: Retention | None
    verification: RecipeVerification | None
    signer_pinning: SignerPinning | None
    billing: Billing | None
    lineage: tuple[LineageEntry, ...]
    """Parents, nearest first."""
    hashed_json: bytes
    """RFC 8785 JSON of the content: what to sign, never with which key."""
    hash: str
    """SHA-256 of `hashed_json`: 64 lower-case hexadecimal digits."""
    notes: tuple[str, ...]
    """What is written in the recipe or its parents and has no effect, for people."""


@dataclass(frozen=True)
class _Key:
    mode: KmsMode
    name: ObjectName | None


@dataclass(frozen=True)
class _Level:
    """A recipe of a lineage, with all that it inherits but the key."""

    recipe: SigningRecipe
    spec: SigningRecipeSpec
    complete: SigningRecipeSpec
    """With the defaults filled in, which a child must not inherit."""
    hashed_json: bytes
    entry: LineageEntry
    notes: tuple[str, ...]
    """What it wrote itself without effect."""


class Resolver:
    """Resolves recipes of one set of objects, each parent once; another set takes another Resolver."""

    def __init__(self, *, presets_namespace: str, managed_key: ObjectName | None) -> None:
        self._presets_namespace = presets_namespace
        self._managed_key = managed_key
        self._parents: dict[ObjectName, _Level] = {}

    def resolve(self, recipe: SigningRecipe, find: Find) -> EffectiveRecipe:
        """Resolve a recipe through all that it extends.

        `find` answers with the SigningRecipe of a namespace and name, or None; a Refusal that it raises says that one
        is there and cannot be read. It must answer alike for as long as this object is used. Raises Refusal
        (RecipeInvalid) for a preset's name outside the presets' namespace and fields that contradict inherited ones;
        ParentRefusal (RecipeInvalid), by name, for an unknown, unreadable or contradictory parent, another version than
        asked for, a cycle and over 8 recipes.
        """
        _check_name(recipe, find, self._presets_namespace, Refusal)
        chain = _chain(recipe, find, self._presets_namespace)
        parents: list[_Level] = []
        for level in reversed(chain[1:]):
            try:
                parents.insert(0, self._parent(level, parents[0] if parents else None))
            except Refusal as refusal:
                raise ParentRefusal(refusal.reason, refusal.message) from refusal
        own = _level(recipe, parents[0] if parents else None)
        chosen = _key(chain, self._managed_key)
        notes = [f"{_title(level.recipe)}: {note}" for level in reversed(parents) for note in level.notes]
        notes += own.notes
        if chosen.mode is KmsMode.MANAGED and chosen.name is None:
            notes.append("kmsMode: managed has no effect: this installation names no managed key")
        notes += [f"{path} is recorded and not put into effect by this version" for path in recorded(own.spec)]
        lineage = tuple(level.entry for level in parents)
        return _effective(own, chosen=chosen, lineage=lineage, notes=tuple(notes))

    def _parent(self, recipe: SigningRecipe, parent: _Level | None) -> _Level:
        if recipe.name not in self._parents:
            self._parents[recipe.name] = _level(recipe, parent)
        return self._parents[recipe.name]


def resolve(
    recipe: SigningRecipe,
    find: Find,
    *,
    presets_namespace: str,
    managed_key: ObjectName | None,
) -> EffectiveRecipe:
    """Resolve one recipe, as `Resolver.resolve` does."""
    return Resolver(presets_namespace=presets_namespace, managed_key=managed_key).resolve(recipe, find)


def _level(recipe: SigningRecipe, parent: _Level | None) -> _Level:
    merge = Merge(_title(recipe), _title(parent.recipe) if parent else "")
    spec = merge.specs(parent.spec if parent else None, recipe.spec)
    complete = _with_defaults(spec)
    hashed = rfc8785.dumps(content(complete))
    entry = LineageEntry(recipe.name, recipe.spec.version, hashlib.sha256(hashed).hexdigest())
    return _Level(recipe, spec, complete, hashed, entry, tuple(merge.notes))


def _title(recipe: SigningRecipe) -> str:
    return f"SigningRecipe {recipe.name}@{recipe.spec.version}"


def _refusal(recipe: SigningRecipe, message: str, kind: type[Refusal] = ParentRefusal) -> Refusal:
    return kind(Reason.RecipeInvalid, f"{_title(recipe)}: {message}")


def _chain(recipe: SigningRecipe, find: Find, presets_namespace: str) -> list[SigningRecipe]:
    chain = [recipe]
    while True:
        if len(chain) > 1:
            _check_name(chain[-1], find, presets_namespace, ParentRefusal)
        if chain[-1].spec.extends is None:
            return chain
        parent = _parent(chain[-1], _reference(chain[-1], chain[-1].spec.extends), find, presets_namespace)
        path = " -> ".join(f"{level.name}@{level.spec.version}" for level in [*chain, parent])
        if any(parent.name == level.name for level in chain):
            raise _refusal(recipe, f"extends itself: {path}; break the cycle")
        if len(chain) == MAXIMUM_DEPTH:
            raise _refusal(recipe, f"is the end of a lineage of over {MAXIMUM_DEPTH} recipes: {path}; shorten it")
        chain.append(parent)


def _reference(recipe: SigningRecipe, extends: str) -> RecipeReference:
    try:
        return RecipeReference.parse(extends)
    except ValueError as error:
        raise _refusal(recipe, f"extends: {error}; correct it") from None


def _check_name(recipe: SigningRecipe, find: Find, presets_namespace: str, kind: type[Refusal]) -> None:
    name = recipe.name.name
    if recipe.name.namespace == presets_namespace:
        return
    if name in RESERVED_NAMES or _is_there(find, ObjectName(presets_namespace, name)):
        raise _refusal(
            recipe, f"has a preset's name, and those are reserved to namespace {presets_namespace}; rename it", kind
        )


def _is_there(find: Find, name: ObjectName) -> bool:
    try:
        return find(name) is not None
    except Refusal:
        # A broken preset makes no room for a local recipe of its name.
        return True


def _parent(child: SigningRecipe, extends: RecipeReference, find: Find, presets_namespace: str) -> SigningRecipe:
    namespaces = dict.fromkeys((presets_namespace, child.name.namespace))
    for namespace in namespaces:
        try:
            parent = find(ObjectName(namespace, extends.name))
        except Refusal as refusal:
            raise ParentRefusal(refusal.reason, refusal.message) from refusal
        if parent is None:
            continue
        if parent.spec.version != extends.version:
            raise _refusal(
                child,
                f"extends {extends}, but {parent.name} is version {parent.spec.version}; extend that or another",
            )
        return parent
    places = " nor ".join(namespaces)
    raise _refusal(child, f"extends {extends}, which is in neither namespace {places}; apply it, or correct extends")


def _key(chain: list[SigningRecipe], managed_key: ObjectName | None) -> _Key:
    recipe = chain[0]
    moded = next((level for level in chain if level.spec.kms_mode is not None), None)
    keyed = next((level for level in chain if level.spec.key_ref is not None), None)
    if moded is not None and moded.spec.kms_mode is KmsMode.MANAGED:
        if keyed is not None and chain.index(keyed) < chain.index(moded):
            raise _refusal(
                recipe,
                f"{_title(keyed)} sets keyRef, but inherits kmsMode: managed from {_title(moded)}; set kmsMode: byok",
                Refusal if keyed is recipe else ParentRefusal,
            )
        return _Key(KmsMode.MANAGED, managed_key)
    ref = keyed.spec.key_ref if keyed is not None else None
    if keyed is None or ref is None:
        return _Key(KmsMode.BYOK, None)
    # Without a namespace it means that of the recipe that wrote it: inheriting must not make it another key.
    return _Key(KmsMode.BYOK, ObjectName(ref.namespace or keyed.name.namespace, ref.name))


def _with_defaults(spec: SigningRecipeSpec) -> SigningRecipeSpec:
    given = spec.c2pa or C2pa()
    required = given.assertions or ()
    c2pa = C2pa(
        enabled=given.enabled is not False,
        assertions=tuple(sorted(required)),
        optional_assertions=tuple(sorted(set(given.optional_assertions or ()) - set(required))),
        defaults=given.defaults or {},
        allowed_labels=tuple(sorted(given.allowed_labels or ())),
        require_ingredient_chain=bool(given.require_ingredient_chain),
        ingredients=given.ingredients or Ingredients.ALLOW,
    )
    return spec.model_copy(update={"c2pa": c2pa})


def _effective(
    own: _Level, *, chosen: _Key, lineage: tuple[LineageEntry, ...], notes: tuple[str, ...]
) -> EffectiveRecipe:
    spec = own.complete
    c2pa = spec.c2pa or C2pa()
    return EffectiveRecipe(
        name=own.recipe.name,
        version=own.recipe.spec.version,
        media_type=spec.media_type,
        enabled=c2pa.enabled is True,
        assertions=c2pa.assertions or (),
        optional_assertions=c2pa.optional_assertions or (),
        defaults={name: ASSERTIONS[name].parse(value) for name, value in (c2pa.defaults or {}).items()},
        allowed_labels=c2pa.allowed_labels or (),
        require_ingredient_chain=c2pa.require_ingredient_chain is True,
        forbid_ingredients=c2pa.ingredients is Ingredients.FORBID,
        kms_mode=chosen.mode,
        key=chosen.name,
        timestamp_url=spec.timestamp.url if spec.timestamp else None,
        watermark=spec.watermark,
        soft_binding=spec.soft_binding,
        anchoring=spec.anchoring,
        retention=spec.retention,
        verification=spec.verification,
        signer_pinning=spec.signer_pinning,
        billing=spec.billing,
        lineage=lineage,
        hashed_json=own.hashed_json,
        hash=own.entry.hash,
        notes=notes,
    )

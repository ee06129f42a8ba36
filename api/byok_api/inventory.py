"""All objects that are known, each judged, kept up to date by changes: pure, and the same in signer and operator.

What a change concerns is found through an index of what each judgement looked at, so that a change costs what depends
on it and no more: a recipe's ancestors by name, there or not; its key; its namespace's labels; a key's rivals for the
same KMS key. After any sequence of changes every standing is what a fresh Inventory would say that was given the same
objects, and before them, of each key that cannot be read now, what it was when it last could: that is what it claims.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from byok_api.byokkey import ByokKey
from byok_api.claims import Claim, Claims, Leaders, claim_left, claim_of
from byok_api.installation import Rules
from byok_api.key_rules import KeyStanding, Registered, judge_key
from byok_api.objects import Identity, Unreadable
from byok_api.recipe_rules import RecipeStanding, Resolution, judge_recipe, resolve_recipe
from byok_api.references import ObjectName
from byok_api.resolution import Resolver
from byok_api.signingrecipe import SigningRecipe

__all__ = ["KEY", "RECIPE", "Inventory", "Known", "Unreadable"]

KEY = "ByokKey"
RECIPE = "SigningRecipe"

Known = ByokKey | SigningRecipe | Unreadable
"""An object that an inventory holds."""


@dataclass
class _Changed:
    """What a batch of changes touched itself."""

    keys: set[ObjectName] = field(default_factory=set)
    recipes: set[ObjectName] = field(default_factory=set)
    namespaces: set[str] = field(default_factory=set)


class _Index:
    """Who looks at what, both ways."""

    def __init__(self) -> None:
        self._lookers: defaultdict[ObjectName, set[ObjectName]] = defaultdict(set)
        self._looked_at: dict[ObjectName, frozenset[ObjectName]] = {}

    def set(self, looker: ObjectName, looked_at: Iterable[ObjectName]) -> None:
        """Say all that `looker` looks at now."""
        before, now = self._looked_at.pop(looker, frozenset[ObjectName]()), frozenset(looked_at)
        if now:
            self._looked_at[looker] = now
        for name in before - now:
            self._lookers[name].discard(looker)
            if not self._lookers[name]:
                del self._lookers[name]
        for name in now - before:
            self._lookers[name].add(looker)

    def lookers(self, name: ObjectName) -> frozenset[ObjectName]:
        """List all that look at `name`."""
        return frozenset(self._lookers.get(name, ()))

    def looked_at(self, looker: ObjectName) -> frozenset[ObjectName]:
        """List all that `looker` looks at."""
        return self._looked_at.get(looker, frozenset())


class _Certificates:
    """Registered chains by their text, each read once for as long as a key has it."""

    def __init__(self) -> None:
        self._users: Counter[str] = Counter()
        self._read: dict[str, Registered] = {}

    def take(self, pem: str | None) -> Registered | None:
        """Read the certificate of a key that comes in."""
        if pem is None:
            return None
        self._users[pem] += 1
        if pem not in self._read:
            self._read[pem] = Registered.read(pem)
        return self._read[pem]

    def give_back(self, pem: str | None) -> None:
        """Forget the certificate of a key that goes, unless another has it too."""
        if pem is not None:
            self._users[pem] -= 1
            if not self._users[pem]:
                del self._users[pem], self._read[pem]

    def of(self, key: ByokKey) -> Registered | None:
        """Answer with what was read."""
        return self._read[key.spec.certificate.pem] if key.spec.certificate else None


def _pem_of(found: Known | None) -> str | None:
    if isinstance(found, ByokKey):
        return found.spec.certificate.pem if found.spec.certificate else None
    return found.legible.pem if isinstance(found, Unreadable) and found.legible else None


class Inventory:
    """Objects under the rules of an installation; each method that changes it tells whose standing that concerns.

    Concerned is at least every object whose standing, or whose `recipes_of`, is another than before.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._objects: dict[Identity, Known] = {}
        self._labels: Mapping[str, Mapping[str, str]] = {}
        self._certificates = _Certificates()
        self._claims = Claims()
        # What keys that cannot be read claimed when they last could.
        self._last_claims: dict[ObjectName, Claim] = {}
        self._older: dict[ObjectName, ObjectName | None] = {}
        self._keys: dict[ObjectName, KeyStanding | Unreadable] = {}
        self._resolutions: dict[ObjectName, Resolution] = {}
        self._recipes: dict[ObjectName, RecipeStanding | Unreadable] = {}
        self._ancestors = _Index()
        self._key_of = _Index()
        self._admitted = _Index()
        self._foreign: defaultdict[str, set[ObjectName]] = defaultdict(set)

    @property
    def namespace_labels(self) -> Mapping[str, Mapping[str, str]]:
        """Labels of every namespace that was described; never changed, but replaced."""
        return self._labels

    def key(self, name: ObjectName) -> KeyStanding | Unreadable | None:
        """Answer with a key's standing; None if there is none of that name."""
        return self._keys.get(name)

    def recipe(self, name: ObjectName) -> RecipeStanding | Unreadable | None:
        """Answer with a recipe's standing; None if there is none of that name."""
        return self._recipes.get(name)

    def key_names(self) -> Iterable[ObjectName]:
        """List all keys."""
        return self._keys.keys()

    def recipe_names(self) -> Iterable[ObjectName]:
        """List all recipes."""
        return self._recipes.keys()

    def recipes_of(self, key: ObjectName) -> frozenset[ObjectName]:
        """List the recipes that resolve to a key which is there and admits them; others do not burden its owner."""
        return self._admitted.lookers(key)

    def leaders(self) -> Leaders:
        """Return the claims that decide whose a KMS key is by age, as they are at this moment."""
        return self._claims.leaders()

    def put(self, found: Known) -> frozenset[Identity]:
        """Take an object in, in place of the one of its kind and name."""
        return self.change({(found.kind, found.name): found}, {})

    def remove(self, kind: str, name: ObjectName) -> frozenset[Identity]:
        """Forget an object, if it is there."""
        return self.change({(kind, name): None}, {})

    def describe_namespace(self, name: str, labels: Mapping[str, str] | None) -> frozenset[Identity]:
        """Take in a namespace's labels (`objects.Namespace.labels`); None: it is gone."""
        return self.change({}, {name: labels})

    def change(
        self, objects: Mapping[Identity, Known | None], namespace_labels: Mapping[str, Mapping[str, str] | None]
    ) -> frozenset[Identity]:
        """Take in changes that come together, each as `put`, `remove` (None) or `describe_namespace` would."""
        changed = _Changed()
        for identity, found in objects.items():
            if found is None:
                self._remove(identity, changed)
            else:
                self._put(found, changed)
        changed.namespaces = {name for name, labels in namespace_labels.items() if self._labels.get(name) != labels}
        if changed.namespaces:
            described = dict(self._labels)
            for name in changed.namespaces:
                labels = namespace_labels[name]
                described.pop(name, None)
                described |= {} if labels is None else {name: dict(labels)}
            self._labels = described
        return self._settle(changed)

    def replace_all(
        self, objects: Iterable[Known], namespace_labels: Mapping[str, Mapping[str, str]]
    ) -> frozenset[Identity]:
        """Hold exactly these objects and namespaces; what is as before costs next to nothing.

        Of two objects of one kind and name the later one is taken.
        """
        changed = _Changed()
        wanted = {(found.kind, found.name): found for found in objects}
        for identity in [known for known in self._objects if known not in wanted]:
            self._remove(identity, changed)
        for found in wanted.values():
            self._put(found, changed)
        names = self._labels.keys() | namespace_labels.keys()
        changed.namespaces |= {name for name in names if self._labels.get(name) != namespace_labels.get(name)}
        self._labels = {name: dict(labels) for name, labels in namespace_labels.items()}
        return self._settle(changed)

    def _put(self, found: Known, changed: _Changed) -> None:
        identity = found.kind, found.name
        before = self._objects.get(identity)
        if before == found:
            return
        self._objects[identity] = found
        if identity[0] == RECIPE:
            changed.recipes.add(found.name)
            return
        changed.keys.add(found.name)
        last = self._claims.of(found.name)
        if isinstance(before, ByokKey) and isinstance(found, Unreadable) and last is not None:
            self._last_claims[found.name] = last
        self._claim(found, self._certificates.take(_pem_of(found)))
        self._certificates.give_back(_pem_of(before))

    def _claim(self, found: Known, registered: Registered | None) -> None:
        name, chain = found.name, registered.chain if registered else None
        spki_sha256 = chain.spki_sha256 if chain else None
        if isinstance(found, ByokKey):
            self._last_claims.pop(name, None)
            self._claims.put(claim_of(found, spki_sha256))
        elif isinstance(found, Unreadable):
            last = self._last_claims.get(name)
            left = claim_left(name, found.legible, spki_sha256, last)
            if left is None:
                self._claims.remove(name)
            else:
                self._claims.put(left)

    def _remove(self, identity: Identity, changed: _Changed) -> None:
        before = self._objects.pop(identity, None)
        if before is None:
            return
        if identity[0] == RECIPE:
            changed.recipes.add(before.name)
            return
        changed.keys.add(before.name)
        self._claims.remove(before.name)
        self._last_claims.pop(before.name, None)
        self._certificates.give_back(_pem_of(before))

    def _settle(self, changed: _Changed) -> frozenset[Identity]:
        """Judge anew what the changes concern; in this order, as keys know no recipes."""
        keys = self._judge_keys(changed.keys)
        recipes = set(changed.recipes).union(*(self._ancestors.lookers(name) for name in changed.recipes))
        rules = self._rules
        resolver = Resolver(presets_namespace=rules.presets_namespace, managed_key=rules.managed_key)
        for name in recipes:
            self._resolve(name, resolver)
        recipes = recipes.union(
            *(self._key_of.lookers(name) for name in keys),
            *(self._foreign.get(namespace, ()) for namespace in changed.namespaces),
        )
        counted = {key for name in recipes for key in self._judge_recipe(name)}
        return frozenset({(KEY, name) for name in keys | counted} | {(RECIPE, name) for name in recipes})

    def _judge_keys(self, changed: set[ObjectName]) -> frozenset[ObjectName]:
        rivals = self._claims.take_concerned() - changed
        concerned = frozenset(changed) | {
            # Those that cannot be read claim too, but are not judged.
            name
            for name in rivals & self._older.keys()
            if self._claims.older(name) != self._older[name]
        }
        for name in concerned:
            found = self._objects.get((KEY, name))
            self._older.pop(name, None)
            if isinstance(found, ByokKey):
                self._older[name] = self._claims.older(name)
                registered = self._certificates.of(found)
                self._keys[name] = judge_key(found, registered, self._older[name], self._rules)
            elif isinstance(found, Unreadable):
                self._keys[name] = found
            else:
                self._keys.pop(name, None)
        return concerned

    def _resolve(self, name: ObjectName, resolver: Resolver) -> None:
        found = self._objects.get((RECIPE, name))
        looked_at: set[ObjectName] = set()
        self._forget_resolution(name)
        if isinstance(found, SigningRecipe):
            resolution = resolve_recipe(found, lambda other: self._find(other, looked_at), resolver)
            self._resolutions[name] = resolution
            key = resolution.effective.key if resolution.effective else None
            self._key_of.set(name, (key,) if key else ())
            if key and key.namespace != name.namespace:
                self._foreign[name.namespace].add(name)
        self._ancestors.set(name, looked_at)

    def _forget_resolution(self, name: ObjectName) -> None:
        self._resolutions.pop(name, None)
        self._key_of.set(name, ())
        if name.namespace in self._foreign:
            self._foreign[name.namespace].discard(name)
            if not self._foreign[name.namespace]:
                del self._foreign[name.namespace]

    def _find(self, name: ObjectName, looked_at: set[ObjectName]) -> SigningRecipe | None:
        looked_at.add(name)
        found = self._objects.get((RECIPE, name))
        if isinstance(found, Unreadable):
            # Not None: a broken preset must not make room for a local recipe of its name.
            raise found.refusal()
        return found if isinstance(found, SigningRecipe) else None

    def _judge_recipe(self, name: ObjectName) -> frozenset[ObjectName]:
        """Judge a resolved recipe by its key; answer with the keys that it counts for, before or now but not both."""
        before = self._admitted.looked_at(name)
        resolution, found = self._resolutions.get(name), self._objects.get((RECIPE, name))
        admitted: tuple[ObjectName, ...] = ()
        if resolution is not None:
            key = resolution.effective.key if resolution.effective else None
            standing = judge_recipe(
                resolution, self._keys.get(key) if key else None, self._labels.get(name.namespace), self._rules
            )
            self._recipes[name] = standing
            admitted = (key,) if key and standing.admitted else ()
        elif isinstance(found, Unreadable):
            self._recipes[name] = found
        else:
            self._recipes.pop(name, None)
        self._admitted.set(name, admitted)
        return before ^ self._admitted.looked_at(name)

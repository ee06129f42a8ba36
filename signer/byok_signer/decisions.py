"""What may sign, decided from specs alone: an inventory, judged by the rules of `byok_api`, as a catalogue. Pure.

What depends on the caller, on the moment or on KMS is decided later, for each signature.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from byok_api import installation
from byok_api.byokkey import DEFAULT_INTERVAL, DEFAULT_STALE_AFTER
from byok_api.errors import Reason
from byok_api.fields import duration
from byok_api.inventory import KEY, RECIPE, Inventory, Known
from byok_api.key_rules import KeyStanding, Problem, arns_of
from byok_api.objects import Identity, Unreadable
from byok_api.recipe_rules import RecipeStanding
from byok_api.references import KeyArn, ObjectName
from byok_api.resolution import EffectiveRecipe
from byok_signer.entries import Catalogue, KeyEntry, Pin, Refused, ReservedKey, SigningEntry
from byok_signer.guard import policy_for
from byok_signer.kms.port import KeyHandle, external_id_for

_Entry = TypeVar("_Entry")


@dataclass(frozen=True, kw_only=True)
class Rules(installation.Rules):
    """What the installation has decided, and what only the signer knows of it."""

    checkpoint_key: ReservedKey | None = None
    """The key that signs the audit chain's head, and nothing else."""


def build_catalogue(
    objects: Iterable[Known], rules: Rules, namespace_labels: Mapping[str, Mapping[str, str]] | None = None
) -> Catalogue:
    """Resolve objects that will not change; whatever is wrong with one becomes its `Refused` and touches no other."""
    inventory = Inventory(rules)
    return updated_catalogue(Catalogue(), inventory, inventory.replace_all(objects, namespace_labels or {}), rules)


def updated_catalogue(
    catalogue: Catalogue, inventory: Inventory, concerned: Iterable[Identity], rules: Rules
) -> Catalogue:
    """Make the catalogue that follows a change of the inventory; `concerned` is what the change was answered with.

    Entries that the change does not concern are those of `catalogue`.
    """
    keys, recipes = dict(catalogue.keys), dict(catalogue.recipes)
    names: dict[str, list[ObjectName]] = {KEY: [], RECIPE: []}
    for kind, name in concerned:
        names[kind].append(name)
    for name in names[KEY]:
        _set(keys, name, _key_entry(keys.get(name), inventory.key(name), rules))
    for name in names[RECIPE]:
        _set(recipes, name, _recipe_entry(inventory.recipe(name), keys))
    leaders = inventory.leaders() if rules.ownership is None else None
    return Catalogue(recipes, keys, inventory.namespace_labels, leaders)


def _set(entries: dict[ObjectName, _Entry], name: ObjectName, entry: _Entry | None) -> None:
    if entry is None:
        entries.pop(name, None)
    else:
        entries[name] = entry


def _key_entry(
    before: KeyEntry | Refused | None, standing: KeyStanding | Unreadable | None, rules: Rules
) -> KeyEntry | Refused | None:
    if standing is None or isinstance(standing, Unreadable):
        return _unreadable(standing)
    if isinstance(before, KeyEntry) and before.standing is standing:
        return before
    key, aws = standing.key, standing.key.spec.aws
    handle = KeyHandle(
        name=key.name,
        arn=KeyArn(aws.key_arn),
        external_id=external_id_for(rules.installation, key.name),
        replicas=tuple(KeyArn(replica) for replica in aws.replicas or ()),
        role_arn=aws.assume_role.arn if aws.assume_role else None,
        endpoint=aws.endpoint,
    )
    reserved = _reserved(standing, rules.checkpoint_key)
    problem = standing.problem if standing.deactivated else reserved or standing.problem
    return KeyEntry(
        standing=standing,
        handle=handle,
        problem=_refused(key.name, problem),
        acceptance_problem=_refused(key.name, reserved or standing.acceptance),
        certificate_problem=_refused(key.name, standing.certificate),
    )


def _reserved(standing: KeyStanding, reserved: ReservedKey | None) -> Problem | None:
    spki_sha256 = standing.chain.spki_sha256 if standing.chain else None
    if reserved is None or not reserved.is_named_by(arns_of(standing.key), spki_sha256):
        return None
    text = f"key {standing.name} is the key that signs the installation's audit checkpoints; name another KMS key"
    return Problem(Reason.KeyInvalid, text)


def _recipe_entry(
    standing: RecipeStanding | Unreadable | None, keys: Mapping[ObjectName, KeyEntry | Refused]
) -> SigningEntry | Refused | None:
    if standing is None or isinstance(standing, Unreadable):
        return _unreadable(standing)
    name, version = standing.name, standing.recipe.spec.version
    if standing.problem is not None:
        return _refused(name, standing.problem, version)
    key = keys.get(standing.key) if standing.key else None
    # The rules have seen to both.
    if standing.effective is None or not isinstance(key, KeyEntry):
        raise AssertionError(f"recipe {name} passed its checks without a key")
    if key.problem is not None:
        return Refused(name, key.problem.reason, f"recipe {name} cannot sign: {key.problem.message}", version)
    return _signing_entry(standing.effective, key)


def _signing_entry(recipe: EffectiveRecipe, key: KeyEntry) -> SigningEntry:
    if key.chain is None or key.algorithm is None:
        raise AssertionError(f"key {key.name} passed its checks without a usable certificate")
    verification = key.manifest.spec.verification
    return SigningEntry(
        recipe=recipe,
        key=key,
        chain=key.chain,
        algorithm=key.algorithm,
        policy=policy_for(recipe, key.algorithm, key.chain.ders),
        pin=Pin(
            handle=key.handle,
            spki_sha256=key.chain.spki_sha256,
            recheck_after=_seconds(verification.interval if verification else None, DEFAULT_INTERVAL),
            stale_after=_seconds(verification.stale_after if verification else None, DEFAULT_STALE_AFTER),
        ),
    )


def _unreadable(found: Unreadable | None) -> Refused | None:
    return Refused(found.name, found.reason, found.message, found.version) if found else None


def _refused(name: ObjectName, problem: Problem | None, version: int | None = None) -> Refused | None:
    return Refused(name, problem.reason, problem.message, version) if problem else None


def _seconds(given: str | None, default: str) -> float:
    return duration(given or default).total_seconds()

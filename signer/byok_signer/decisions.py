"""What may sign, decided from specs alone: an inventory of objects resolved into a catalogue. Pure and total.

The two ordered lists of checks, `KEY_CHECKS` and `RECIPE_CHECKS`, are the rules; the first that fails is the reason
that users are told. What depends on the caller, on the moment or on KMS is decided later, for each signature.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from byok_api.algorithms import SigningAlgorithm
from byok_api.byokkey import DEFAULT_INTERVAL, DEFAULT_STALE_AFTER, ByokKey, KeyState
from byok_api.certificate_rules import Severity
from byok_api.certificates import CertificateChain, lint, parse_chain
from byok_api.consent import check_required_recipe
from byok_api.errors import Reason, Refusal
from byok_api.fields import duration
from byok_api.references import KeyArn, ObjectName
from byok_api.resolution import EffectiveRecipe, resolve
from byok_api.signatures import algorithms_for
from byok_api.signingrecipe import SigningRecipe
from byok_signer.entries import Catalogue, Inventory, KeyEntry, Pin, Refused, ReservedKey, SigningEntry
from byok_signer.guard import policy_for
from byok_signer.kms.port import KeyHandle, external_id_for

# They depend on the moment: `KeyEntry.check_valid_at` decides them anew for each signature.
_FINDINGS_OF_THE_MOMENT = frozenset({"Expired", "NotYetValid"})
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the installation has decided."""

    installation: str
    presets_namespace: str
    managed_key: ObjectName | None = None
    required_terms: str | None = None
    """Terms that every key must acknowledge; None demands none."""
    checkpoint_key: ReservedKey | None = None
    """The key that signs the audit chain's head, and nothing else."""


Problem = tuple[Reason, str]
"""Why an object cannot be used; the text continues a sentence that begins with the object's name."""


@dataclass(frozen=True)
class _KeyFacts:
    key: ByokKey
    chain: CertificateChain | None
    chain_refusal: Refusal | None
    algorithm: SigningAlgorithm | None
    older_claim: ObjectName | None
    rules: Rules
    now: datetime


def _is_active(facts: _KeyFacts) -> Problem | None:
    if facts.key.spec.state is KeyState.DEACTIVATED:
        return Reason.KeyDeactivated, "is deactivated (spec.state)"
    return None


def _terms_are_acknowledged(facts: _KeyFacts) -> Problem | None:
    given, wanted = facts.key.spec.acknowledgement, facts.rules.required_terms
    if wanted is not None and (given is None or given.terms != wanted):
        return Reason.KeyInvalid, f"does not acknowledge the terms {wanted} (spec.acknowledgement)"
    return None


def _is_not_the_checkpoint_key(facts: _KeyFacts) -> Problem | None:
    aws, reserved = facts.key.spec.aws, facts.rules.checkpoint_key
    arns = (KeyArn(arn) for arn in (aws.key_arn, *(aws.replicas or ())))
    if reserved is not None and reserved.is_named_by(arns, facts.chain.spki_sha256 if facts.chain else None):
        return Reason.KeyInvalid, "is the key that signs the installation's audit checkpoints; name another KMS key"
    return None


def _certificate_is_registered(facts: _KeyFacts) -> Problem | None:
    if facts.key.spec.certificate is None:
        return Reason.CertificateMissing, "has no certificate (spec.certificate)"
    return None


def _certificate_is_readable(facts: _KeyFacts) -> Problem | None:
    if facts.chain_refusal is not None:
        return facts.chain_refusal.reason, f"has an unreadable certificate: {facts.chain_refusal.message}"
    return None


def _certificate_fits_profile(facts: _KeyFacts) -> Problem | None:
    if facts.chain is None:
        return None
    for finding in lint(facts.chain, now=facts.now):
        if finding.severity is Severity.ERROR and finding.name not in _FINDINGS_OF_THE_MOMENT:
            return Reason.CertificateInvalid, f"has an unsuitable certificate: {finding.name}: {finding.message}"
    return None


def _algorithm_fits_certificate(facts: _KeyFacts) -> Problem | None:
    if facts.algorithm is None:
        return Reason.KeyInvalid, f"cannot sign with {facts.key.spec.signing_algorithm}: its certificate is for another"
    return None


def _is_claimed_once(facts: _KeyFacts) -> Problem | None:
    if facts.older_claim is not None:
        return Reason.KeyClaimedElsewhere, f"has the same public key as {facts.older_claim}, which claims it too"
    return None


_KeyCheck = Callable[[_KeyFacts], Problem | None]

CERTIFICATE_CHECKS: tuple[_KeyCheck, ...] = (
    _certificate_is_registered,
    _certificate_is_readable,
    _certificate_fits_profile,
)
KEY_CHECKS: tuple[_KeyCheck, ...] = (
    _is_active,
    _terms_are_acknowledged,
    _is_not_the_checkpoint_key,
    *CERTIFICATE_CHECKS,
    _algorithm_fits_certificate,
    _is_claimed_once,
)


@dataclass(frozen=True)
class _RecipeFacts:
    recipe: EffectiveRecipe
    key: KeyEntry | Refused | None
    catalogue: Catalogue
    rules: Rules


def _is_enabled(facts: _RecipeFacts) -> Problem | None:
    return None if facts.recipe.enabled else (Reason.SigningDisabled, "has c2pa.enabled: false")


def _names_a_key(facts: _RecipeFacts) -> Problem | None:
    if facts.recipe.key is None:
        return Reason.RecipeWithoutKey, "names no key: it can be extended and cannot sign"
    return None


def _key_exists(facts: _RecipeFacts) -> Problem | None:
    name = facts.recipe.key
    if facts.key is None and name is not None and name.namespace == facts.recipe.name.namespace:
        return Reason.KeyMissing, f"names the key {name}, which is not there"
    return None


def _key_admits_recipe(facts: _RecipeFacts) -> Problem | None:
    # One answer for a foreign key that is not there and one that is not shared: nobody learns of another's keys.
    name, namespace = facts.recipe.key, facts.recipe.name.namespace
    if name is None or name.namespace == namespace:
        return None
    if isinstance(facts.key, KeyEntry) and facts.catalogue.admits(facts.key, namespace):
        return None
    return Reason.KeyNotAllowed, f"names the key {name}, which is not there or does not admit namespace {namespace}"


def _key_can_sign(facts: _RecipeFacts) -> Problem | None:
    problem = facts.key if isinstance(facts.key, Refused) else facts.key.problem if facts.key else None
    return None if problem is None else (problem.reason, f"cannot sign: {problem.message}")


def _required_recipe_is_in_lineage(facts: _RecipeFacts) -> Problem | None:
    if not isinstance(facts.key, KeyEntry):
        return None
    lineage = [(facts.recipe.name, facts.recipe.version)]
    lineage += [(parent.name, parent.version) for parent in facts.recipe.lineage]
    try:
        check_required_recipe(facts.key.manifest, lineage, presets_namespace=facts.rules.presets_namespace)
    except Refusal as refusal:
        return refusal.reason, f"cannot sign: {refusal.message}"
    return None


RECIPE_CHECKS: tuple[Callable[[_RecipeFacts], Problem | None], ...] = (
    _is_enabled,
    _names_a_key,
    _key_exists,
    _key_admits_recipe,
    _key_can_sign,
    _required_recipe_is_in_lineage,
)


def build_catalogue(inventory: Inventory, rules: Rules, *, now: datetime) -> Catalogue:
    """Resolve every object of an inventory; whatever is wrong with one becomes its `Refused` and touches no other."""
    keys = dict(_keys(inventory.keys, rules, now))
    catalogue = Catalogue(keys=keys, namespace_labels=inventory.namespace_labels)
    recipes = {name: _recipe_entry(recipe, inventory, rules, catalogue) for name, recipe in inventory.recipes.items()}
    return Catalogue(recipes, keys, inventory.namespace_labels)


def _keys(
    keys: Mapping[ObjectName, ByokKey | Refused], rules: Rules, now: datetime
) -> Iterator[tuple[ObjectName, KeyEntry | Refused]]:
    chains = {name: _chain_of(key) for name, key in keys.items() if isinstance(key, ByokKey)}
    claims: dict[str, list[ByokKey]] = defaultdict(list)
    for name, (chain, _) in chains.items():
        key = keys[name]
        if chain is not None and isinstance(key, ByokKey):
            claims[chain.spki_sha256].append(key)
    for name, key in keys.items():
        if isinstance(key, Refused):
            yield name, key
            continue
        chain, refusal = chains[name]
        older = _older_claim(key, claims[chain.spki_sha256]) if chain else None
        yield name, _key_entry(_KeyFacts(key, chain, refusal, _algorithm_of(key, chain), older, rules, now))


def _chain_of(key: ByokKey) -> tuple[CertificateChain | None, Refusal | None]:
    if key.spec.certificate is None:
        return None, None
    try:
        return parse_chain(key.spec.certificate.pem), None
    except Refusal as refusal:
        return None, refusal


def _algorithm_of(key: ByokKey, chain: CertificateChain | None) -> SigningAlgorithm | None:
    wanted = key.spec.signing_algorithm
    if chain is None:
        return wanted
    possible = algorithms_for(chain.public_key)
    if wanted is None:
        return possible[0] if possible else None
    return wanted if wanted in possible else None


def _older_claim(key: ByokKey, claims: list[ByokKey]) -> ObjectName | None:
    # A tie, or objects without a time as in a folder, refuses both (design, section 5).
    mine = key.metadata.creation_timestamp or _NEVER
    for other in claims:
        theirs = other.metadata.creation_timestamp or _NEVER
        if other.name.namespace != key.name.namespace and theirs <= mine:
            return other.name
    return None


def _key_entry(facts: _KeyFacts) -> KeyEntry:
    key, aws = facts.key, facts.key.spec.aws
    handle = KeyHandle(
        name=key.name,
        arn=KeyArn(aws.key_arn),
        external_id=external_id_for(facts.rules.installation, key.name),
        replicas=tuple(KeyArn(replica) for replica in aws.replicas or ()),
        role_arn=aws.assume_role.arn if aws.assume_role else None,
        endpoint=aws.endpoint,
    )
    return KeyEntry(
        manifest=key,
        handle=handle,
        chain=facts.chain,
        algorithm=facts.algorithm,
        problem=_first_problem(KEY_CHECKS, facts),
        certificate_problem=_first_problem(CERTIFICATE_CHECKS, facts),
    )


def _first_problem(checks: tuple[_KeyCheck, ...], facts: _KeyFacts) -> Refused | None:
    found = next(filter(None, (check(facts) for check in checks)), None)
    name = facts.key.name
    return Refused(name, found[0], f"key {name} {found[1]}") if found else None


def _recipe_entry(
    recipe: SigningRecipe | Refused, inventory: Inventory, rules: Rules, catalogue: Catalogue
) -> SigningEntry | Refused:
    if isinstance(recipe, Refused):
        return recipe
    version = recipe.spec.version

    def find(name: ObjectName) -> SigningRecipe | None:
        found = inventory.recipes.get(name)
        if isinstance(found, Refused):
            # Not None: a broken preset must not make room for a local recipe of its name.
            raise found.refusal()
        return found

    try:
        effective = resolve(recipe, find, presets_namespace=rules.presets_namespace, managed_key=rules.managed_key)
    except Refusal as refusal:
        return Refused(recipe.name, refusal.reason, refusal.message, version)
    facts = _RecipeFacts(effective, catalogue.keys.get(effective.key) if effective.key else None, catalogue, rules)
    found = next(filter(None, (check(facts) for check in RECIPE_CHECKS)), None)
    if found:
        return Refused(recipe.name, found[0], f"recipe {recipe.name} {found[1]}", version)
    return _signing_entry(effective, facts.key)


def _signing_entry(recipe: EffectiveRecipe, key: KeyEntry | Refused | None) -> SigningEntry:
    # The checks have seen to all three.
    if not isinstance(key, KeyEntry) or key.chain is None or key.algorithm is None:
        raise AssertionError(f"recipe {recipe.name} passed its checks without a usable key")
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


def _seconds(given: str | None, default: str) -> float:
    return duration(given or default).total_seconds()

"""What `byokctl doctor` asks the cluster: the caller's rights, what status says, how owners are kept apart."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName, RecipeReference
from byok_client.cli.cluster import in_cluster
from byok_client.cli.doctor import Finding, Patient, Verdict, refused
from byok_client.cli.exits import Exit
from byok_client.cli.refusals import RemediedRefusal
from byok_service.kubernetes import BYOK_KEYS, LEASES, SIGNING_RECIPES, JsonObject, Resource

_OPERATOR_LEASE = "byok-operator"
# Kubernetes' own role admin has them in its namespace, other than SubjectAccessReviews.
_REVIEWS = Resource("authorization.k8s.io", "v1", "localsubjectaccessreviews")
_LEASE_SECONDS = timedelta(seconds=60)


def cluster_checks(patient: Patient, namespace: str) -> Iterator[Finding]:
    """Look at the cluster with the user's own rights; `namespace` is the installation's.

    Only what tells owners apart needs lists of all namespaces, which a team's people seldom may have.
    """
    keys: list[JsonObject] | None = None
    try:
        keys = in_cluster(lambda cluster: cluster.list(BYOK_KEYS, None))
        recipes = in_cluster(lambda cluster: cluster.list(SIGNING_RECIPES, None))
    except Refusal as refusal:
        yield _unseen("cluster", refusal)
        # RemediedRefusal: there are no CRDs. What else is refused by the API server is refused to this user.
        if refusal.reason is not Reason.ClusterRefused or isinstance(refusal, RemediedRefusal):
            return
    else:
        yield Finding("cluster", Verdict.GOOD, f"{len(keys)} ByokKeys and {len(recipes)} SigningRecipes")
    yield _operator(namespace)
    yield _right_to_sign(patient)
    yield from _status_of(patient)
    if keys is not None:
        yield _separation(keys)


def _operator(namespace: str) -> Finding:
    try:
        lease = in_cluster(lambda cluster: cluster.get(LEASES, ObjectName(namespace, _OPERATOR_LEASE)))
    except Refusal as refusal:
        return _unseen("operator", refusal)
    renewed = lease.get("spec", {}).get("renewTime")
    holder = lease.get("spec", {}).get("holderIdentity")
    age = datetime.now(UTC) - datetime.fromisoformat(renewed) if renewed else timedelta.max
    if not holder or age > _LEASE_SECONDS:
        found = f"no operator leads: the lease {namespace}/{_OPERATOR_LEASE} was last renewed at {renewed}"
        remedy = "status is out of date; signing goes on. Check the operator's pods"
        return Finding("operator", Verdict.WARNING, found, remedy)
    return Finding("operator", Verdict.GOOD, f"{holder} leads")


def _right_to_sign(patient: Patient) -> Finding:
    """Ask whether the token's account may sign under the recipe, as the signer asks."""
    name = _recipe_named(patient)
    if name is None or patient.claims is None:
        return Finding("right to sign", Verdict.SKIPPED, "not asked, for want of: recipe or token")
    user = str(patient.claims["sub"])
    attributes = {
        "group": SIGNING_RECIPES.group,
        "resource": SIGNING_RECIPES.plural,
        "verb": "sign",
        "namespace": name.namespace,
        "name": name.name,
    }
    *_, namespace, _ = user.split(":")
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    body = {
        "apiVersion": _REVIEWS.api_version,
        "kind": "LocalSubjectAccessReview",
        "metadata": {"namespace": name.namespace},
        "spec": {"user": user, "groups": groups, "resourceAttributes": attributes},
    }
    try:
        answer = in_cluster(lambda cluster: cluster.review(_REVIEWS, name.namespace, body))
    except Refusal as refusal:
        return _unseen("right to sign", refusal)
    if answer.get("status", {}).get("allowed") is True:
        return Finding("right to sign", Verdict.GOOD, f"{user} may sign under {name}")
    found = f"{user} may not sign under {name}"
    remedy = f"bind the ClusterRole byok-signer-user to it in namespace {name.namespace}"
    return Finding("right to sign", Verdict.BAD, found, remedy, Exit.FAILED)


def _status_of(patient: Patient) -> Iterator[Finding]:
    name = _recipe_named(patient)
    if name is None:
        return
    recipe, finding = _read(SIGNING_RECIPES, name, "recipe's status")
    yield finding
    used = recipe.get("status", {}).get("key")
    if used:
        _, finding = _read(BYOK_KEYS, ObjectName(used["namespace"], used["name"]), "key's status")
        yield finding


def _read(resource: Resource, name: ObjectName, check: str) -> tuple[JsonObject, Finding]:
    """Read an object, empty if that cannot be, and say what its status says."""
    try:
        item = in_cluster(lambda cluster: cluster.get(resource, name))
    except Refusal as refusal:
        if refusal.reason is not Reason.ObjectNotFound:
            return {}, _unseen(check, refusal)
        return {}, Finding(check, Verdict.BAD, f"there is no {resource} {name}", "apply it", Exit.FAILED)
    return item, _ready(resource, name, item, check)


def _ready(resource: Resource, name: ObjectName, item: Mapping[str, Any], check: str) -> Finding:
    status = item.get("status", {})
    ready = next((each for each in status.get("conditions") or () if each["type"] == "Ready"), None)
    if ready is None or status.get("observedGeneration") != item["metadata"].get("generation"):
        found = f"the operator has not looked at this state of {resource} {name} yet"
        return Finding(check, Verdict.WARNING, found, "check that an operator leads")
    found = f"{resource} {name} is Ready={ready['status']}: {ready['reason']}: {ready['message']}"
    if ready["status"] == "True":
        return Finding(check, Verdict.GOOD, found)
    reason = Reason.__members__.get(ready["reason"])
    remedy = reason.facts.remedy if reason else ""
    if ready["status"] == "False":
        return Finding(check, Verdict.BAD, found, remedy, Exit.FAILED)
    # The operator could not find out; the signer, which decides by itself, may sign.
    return Finding(check, Verdict.WARNING, found, remedy)


def _separation(keys: list[JsonObject]) -> Finding:
    """Say where namespaces of different owners rest on nothing but the order of their claims (design, section 5)."""
    bare = {key["metadata"]["namespace"] for key in keys if "assumeRole" not in key.get("spec", {}).get("aws", {})}
    if len(bare) < len(("one", "another")):
        return Finding("owners", Verdict.GOOD, "no two namespaces share the signer's own identity")
    found = f"keys of {len(bare)} namespaces are granted to the signer's one identity: {', '.join(sorted(bare)[:8])}"
    remedy = (
        "where their owners do not trust each other, set the installation's keyOwnership, or let each key have a role "
        "with an external id (spec.aws.assumeRole)"
    )
    return Finding("owners", Verdict.WARNING, found, remedy)


def _recipe_named(patient: Patient) -> ObjectName | None:
    if patient.recipe_reference is None:
        return None
    try:
        reference = RecipeReference.parse(patient.recipe_reference)
    except ValueError:
        return None
    own = str(patient.claims["sub"]).split(":")[2] if patient.claims else None
    namespace = reference.namespace or own
    return ObjectName(namespace, reference.name) if namespace else None


def _unseen(check: str, refusal: Refusal) -> Finding:
    """Tell of what the user may not see, or has no cluster for: a job that signs needs neither."""
    finding = refused(check, refusal)
    return Finding(check, Verdict.SKIPPED, finding.found, finding.remedy)

"""What a test does and sees in a running cluster: teams with keys, recipes and jobs; what status and the signer say."""

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from byok_api.errors import Reason, Refusal
from byok_api.fields import API_VERSION
from byok_api.references import ObjectName
from byok_client import ClientSettings, SignerClient, SigningResult
from byok_sandbox import parts, shipped
from byok_sandbox.ca import pem_of
from byok_sandbox.filling import FIRST, CertifiedKey
from tests.support.cluster_requests import Answer, Requests, administrator, until
from tests.testenv.deployment import AUDIENCE
from tests.testenv.system import Cluster

PHOTO = shipped.examples() / "media" / "landscape.jpg"
CREATED = {"digital_source_type": "digitalCreation"}
READY_WITHIN = 60.0
"""Seconds: a limit that a loaded machine does not reach, though its operator lose the Lease and wait for it, 15 s long.

On a quiet machine it is about one.
"""
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Live:
    """A running cluster, and an administrator's connection to it."""

    cluster: Cluster
    admin: Requests

    def take(self, *documents: Mapping[str, Any]) -> None:
        """Apply objects; AssertionError with what the API server said if one is refused."""
        for document in documents:
            _taken(self.admin.apply(document))

    def read(self, kind: str, name: ObjectName) -> dict[str, Any]:
        """Read an object as it is stored."""
        return _taken(self.admin.read(reference(kind, name))).body

    def change(self, kind: str, name: ObjectName, spec: Mapping[str, Any]) -> None:
        """Change fields of a spec; None takes one out."""
        _taken(self.admin.patch(reference(kind, name), {"spec": spec}))

    def delete(self, kind: str, name: ObjectName) -> None:
        """Ask for an object's end."""
        _taken(self.admin.delete(reference(kind, name)))

    def condition(self, kind: str, name: ObjectName, condition: str) -> tuple[str, str]:
        """Give status and reason of a condition; empty while there is none."""
        status = self.read(kind, name).get("status", {})
        found = [each for each in status.get("conditions", ()) if each["type"] == condition]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")

    def until_condition(self, kind: str, name: ObjectName, wanted: tuple[str, ...], *, within: float) -> None:
        """Wait until a condition, the first of `wanted`, has the status and, where given, the reason that follow."""
        condition, *rest = wanted
        seen: list[tuple[str, str]] = []

        def reached() -> bool:
            seen[:] = [self.condition(kind, name, condition)]
            return list(seen[0][: len(rest)]) == rest

        try:
            until(reached, f"{kind} {name}: {' '.join(wanted)}", within=within)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {seen}") from None

    def until_ready(self, *objects: tuple[str, ObjectName], within: float = READY_WITHIN) -> None:
        """Wait until objects are Ready."""
        for kind, name in objects:
            self.until_condition(kind, name, ("Ready", "True"), within=within)

    def events(self, name: ObjectName) -> list[dict[str, Any]]:
        """List the events about an object, oldest first."""
        path = f"apis/events.k8s.io/v1/namespaces/{name.namespace}/events"
        events: list[dict[str, Any]] = _taken(self.admin.ask("GET", path)).body["items"]
        about = [event for event in events if event["regarding"]["name"] == name.name]
        return sorted(about, key=lambda event: str(event["eventTime"]))


@dataclass(frozen=True)
class Team:
    """A namespace with a KMS key, its ByokKey `key`, a recipe `photo` that it signs, and a job that may sign."""

    live: Live
    namespace: str
    kms_key: CertifiedKey
    client: ClientSettings

    @property
    def key(self) -> ObjectName:
        """Its ByokKey."""
        return ObjectName(self.namespace, "key")

    @property
    def recipe(self) -> ObjectName:
        """Its SigningRecipe."""
        return ObjectName(self.namespace, "photo")

    def sign(self, folder: Path) -> SigningResult:
        """Sign a photo as the job; Refusal if it is not to be."""
        return sign(self.client, self.recipe, folder)

    def refusal(self, folder: Path) -> Reason | None:
        """Sign a photo; answer why that was refused, or None."""
        return refusal(self.client, self.recipe, folder)

    def until_refused(self, folder: Path, reason: Reason, *, within: float) -> None:
        """Sign until that is refused for a reason."""
        until(lambda: self.refusal(folder) is reason, f"{self.recipe} is refused: {reason.name}", within=within)

    def until_signed(self, folder: Path, *, within: float) -> None:
        """Sign until that succeeds."""
        until(lambda: self.refusal(folder) is None, f"{self.recipe} signs", within=within)

    def until_ready(self, *, within: float = READY_WITHIN) -> None:
        """Wait until key and recipe are Ready."""
        self.live.until_ready(("ByokKey", self.key), ("SigningRecipe", self.recipe), within=within)


@contextmanager
def living(cluster: Cluster) -> Iterator[Live]:
    """Connect to a running cluster as its administrator."""
    with administrator(cluster.plane) as admin:
        yield Live(cluster, admin)


def found(live: Live, **spec: Any) -> Team:  # noqa: ANN401 - any part of a ByokKey's spec
    """Set up a team with a fresh key in a fresh namespace; `spec` is what its ByokKey says beside the usual."""
    namespace = f"team-{next(_NUMBERS)}"
    around = live.cluster.around
    kms_key = parts.certified_key(around.owner, FIRST, around.authority)
    live.take(namespace_document(namespace))
    team = Team(live, namespace, kms_key, job(live, ObjectName(namespace, "job")))
    live.take(key_document(team.key, kms_key, **spec), recipe_document(team.recipe, team.key))
    return team


def job(live: Live, account: ObjectName, *, may_sign: bool = True) -> ClientSettings:
    """Make a ServiceAccount that may sign under its namespace's recipes, and what it needs to call the signer."""
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(account)}
    _taken(live.admin.ask("POST", f"api/v1/namespaces/{account.namespace}/serviceaccounts", body))
    if may_sign:
        allow(live, account, account.namespace)
    client = live.cluster.client
    token_file = client.token_file.with_name(f"token-{account.namespace}-{account.name}")
    live.cluster.plane.write_token(account, token_file, audience=AUDIENCE)
    return ClientSettings(address=client.address, ca_file=client.ca_file, token_file=token_file, timeout=30.0)


def allow(live: Live, account: ObjectName, namespace: str, role: str = "byok-signer-user") -> ObjectName:
    """Give an account a role in a namespace; answers the RoleBinding's name."""
    name = ObjectName(namespace, f"{account.namespace}-{account.name}-{role}")
    live.take(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata(name),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": account.name, "namespace": account.namespace}],
        }
    )
    return name


def sign(client: ClientSettings, recipe: ObjectName, folder: Path) -> SigningResult:
    """Sign a photo; Refusal if it is not to be."""
    with SignerClient(client) as signer:
        return signer.sign(
            PHOTO, recipe=str(recipe), metadata=CREATED, output=folder / f"{recipe.namespace}.jpg", overwrite=True
        )


def refusal(client: ClientSettings, recipe: ObjectName, folder: Path) -> Reason | None:
    """Sign a photo; answer why that was refused, or None."""
    try:
        sign(client, recipe, folder)
    except Refusal as refused:
        return refused.reason
    return None


def metadata(name: ObjectName) -> dict[str, str]:
    """Write an object's place."""
    return {"name": name.name, "namespace": name.namespace}


def reference(kind: str, name: ObjectName) -> dict[str, Any]:
    """Name an object, as requests take it."""
    return {"kind": kind, "metadata": metadata(name)}


def namespace_document(name: str, **labels: str) -> dict[str, Any]:
    """Write a Namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def key_document(name: ObjectName, key: CertifiedKey, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    """Write a ByokKey that can sign."""
    usual = {
        "aws": {"keyArn": str(key.arn)},
        "signingAlgorithm": str(key.algorithm),
        "certificate": {"pem": pem_of(key.chain.certificates)},
    }
    return {"apiVersion": API_VERSION, "kind": "ByokKey", "metadata": metadata(name), "spec": {**usual, **spec}}


def recipe_document(name: ObjectName, key: ObjectName | None, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    """Write a recipe for photos."""
    usual: dict[str, Any] = {"version": 1, "extends": "image-basic-v1@1"}
    if key is not None:
        usual["keyRef"] = metadata(key)
    document = {"apiVersion": API_VERSION, "kind": "SigningRecipe", "metadata": metadata(name)}
    return {**document, "spec": {**usual, **spec}}


def records(audit: Path) -> list[dict[str, Any]]:
    """Read an audit trail."""
    return [json.loads(line) for line in audit.read_text().splitlines()]


def _taken(answer: Answer) -> Answer:
    assert answer.taken, answer.message
    return answer

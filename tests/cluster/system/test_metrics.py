"""What Prometheus is told of a running operator: objects by condition, expiries, verifications, queue, who leads."""

from collections import Counter
from datetime import UTC, datetime
from http.client import HTTPConnection

from prometheus_client.parser import text_string_to_metric_families

from byok_api.crds import KINDS
from byok_api.references import ObjectName
from tests.support.cluster_requests import until
from tests.support.live import Live, Team, found, reference
from tests.testenv.service import Service

Labels = frozenset[tuple[str, str]]
SAID_WITHIN = 30.0
"""Seconds: a limit that a loaded machine does not reach."""


def scraped(service: Service) -> dict[str, dict[Labels, float]]:
    """Read all samples, by name and labels."""
    connection = HTTPConnection("127.0.0.1", service.http_port, timeout=SAID_WITHIN)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name.removeprefix("byok_operator_")
            samples.setdefault(name, {})[frozenset(sample.labels.items())] = sample.value
    return samples


def of_key(name: ObjectName) -> Labels:
    return frozenset({("key", str(name))})


def test_objects_are_counted_by_what_their_conditions_say(team: Team) -> None:
    live = team.live
    failed = found(live, state="Deactivated")
    live.until_condition("ByokKey", failed.key, ("Ready", "False", "KeyDeactivated"), within=SAID_WITHIN)
    operator = live.cluster.operator
    until(lambda: counted(operator) == stored(live), "as many as the API server has", within=SAID_WITHIN)
    assert counted(operator)["ByokKey", "Ready", "True"] >= 1
    assert counted(operator)["ByokKey", "Ready", "False"] >= 1


def counted(operator: Service) -> Counter[tuple[str, ...]]:
    samples = scraped(operator)["objects"].items()
    by = ("kind", "condition", "status")
    return +Counter({tuple(dict(labels)[name] for name in by): int(value) for labels, value in samples})


def stored(live: Live) -> Counter[tuple[str, ...]]:
    tally: Counter[tuple[str, ...]] = Counter()
    for kind in KINDS:
        items = live.admin.ask("GET", f"apis/byok.dev/v1alpha1/{kind.plural}").body["items"]
        conditions = [each for item in items for each in item.get("status", {}).get("conditions", ())]
        tally.update((kind.name, each["type"], each["status"]) for each in conditions)
    return tally


def test_a_key_has_its_certificates_expiry_and_the_age_of_its_verification(team: Team) -> None:
    before = datetime.now(UTC)
    samples = scraped(team.live.cluster.operator)
    after = datetime.now(UTC)
    expires = team.kms_key.chain.not_after
    left = samples["certificate_expiry_seconds"][of_key(team.key)]
    assert (expires - after).total_seconds() <= left <= (expires - before).total_seconds()
    born = datetime.fromisoformat(team.live.read("ByokKey", team.key)["metadata"]["creationTimestamp"])
    age = samples["verification_age_seconds"][of_key(team.key)]
    assert 0 <= age <= (after - born).total_seconds()
    later = scraped(team.live.cluster.operator)["verification_age_seconds"][of_key(team.key)]
    assert later > age


def test_a_key_that_is_deleted_has_no_series_any_more(team: Team) -> None:
    live = team.live
    gone = found(live)
    gone.until_ready()
    assert of_key(gone.key) in scraped(live.cluster.operator)["certificate_expiry_seconds"]
    live.delete("SigningRecipe", gone.recipe)
    live.admin.patch(reference("ByokKey", gone.key), {"metadata": {"annotations": {"byok.dev/allow-delete": "true"}}})
    live.delete("ByokKey", gone.key)
    series = ("certificate_expiry_seconds", "verification_age_seconds")

    def silent() -> bool:
        samples = scraped(live.cluster.operator)
        return all(of_key(gone.key) not in samples.get(name, {}) for name in series)

    until(silent, "no series of the key", within=SAID_WITHIN)


def test_a_queue_that_is_worked_off_is_empty_and_nothing_waits(team: Team) -> None:
    def idle() -> bool:
        samples = scraped(team.live.cluster.operator)
        return (samples["queue_depth"][frozenset()], samples["queue_age_seconds"][frozenset()]) == (0, 0)

    until(idle, "an empty queue", within=SAID_WITHIN)


def test_only_the_operator_that_leads_says_so(team: Team) -> None:
    cluster = team.live.cluster
    follower = cluster.deployment.operator("operator-follower", signers=cluster.signer.address)
    follower.start()
    try:
        follower.wait_until_ready()
        leads = [scraped(service)["leader"][frozenset()] for service in (cluster.operator, follower)]
        assert leads == [1, 0]
    finally:
        follower.stop()

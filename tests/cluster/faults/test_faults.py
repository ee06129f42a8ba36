"""What must go on, or heal by itself, while a part is away: API server, operator, signer, a watch, a namespace."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName
from byok_client import ClientSettings, SignerClient
from tests.support.cluster_requests import until
from tests.support.live import (
    CREATED,
    PHOTO,
    Live,
    Team,
    found,
    living,
    recipe_document,
    reference,
    refusal,
)
from tests.testenv.installed import install_crds
from tests.testenv.system import Cluster
from tests.testenv.tap import Tap

APPLIED_WITHIN = 15.0
"""Seconds: a limit that a loaded machine does not reach."""
OUTAGE = 60.0
"""Seconds that the API server is away."""
FROZEN = 30.0
HEALED_WITHIN = 60.0
"""Seconds: the same where an operator waits until the Lease of another one, 15 s long, has run out."""
RECIPES = 120
TRIES = 3
LEASE_PATH = "apis/coordination.k8s.io/v1/namespaces/byok-system/leases/byok-operator"
MINUTE = 60.0
SILENT_WITHIN = 100.0
"""Seconds: the same until what was changed holds at a signer whose watch died silently, which it finds out after 70."""


@contextmanager
def signing(client: ClientSettings, recipe: ObjectName, folder: Path) -> Iterator[list[Refusal | None]]:
    """Sign all the time, in a thread; yields what each call was answered: None, or why it was refused."""
    answers: list[Refusal | None] = []
    ended = threading.Event()

    def sign() -> None:
        with SignerClient(client) as signer:
            while not ended.is_set():
                try:
                    signer.sign(PHOTO, recipe=str(recipe), metadata=CREATED, output=folder / "load.jpg", overwrite=True)
                    answers.append(None)
                except Refusal as refused:
                    answers.append(refused)

    thread = threading.Thread(target=sign)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()


def holder(live: Live) -> str:
    """Who holds the operators' Lease."""
    return str(live.admin.ask("GET", LEASE_PATH).body["spec"].get("holderIdentity") or "")


@pytest.mark.timeout(300)
def test_while_the_api_server_is_away_for_a_minute_no_known_caller_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    with living(cluster) as live:
        team = found(live)
        team.until_ready()
    with signing(team.client, team.recipe, tmp_path) as answers:
        until(lambda: len(answers) > 3, "signing has begun")
        cluster.plane.stop_api_server()
        ended = time.monotonic() + OUTAGE
        before = len(answers)
        until(lambda: time.monotonic() > ended, "the outage is over", within=OUTAGE + 5)
        during = len(answers) - before
        cluster.plane.start_api_server()
        after = len(answers)
        until(lambda: len(answers) > after + 10, "signing goes on", within=HEALED_WITHIN)
    assert during > OUTAGE
    assert [refused for refused in answers if refused is not None] == []
    with living(cluster) as live:
        team = replace(team, live=live)
        live.change("ByokKey", team.key, {"state": "Deactivated"})
        team.until_refused(tmp_path, Reason.KeyDeactivated, within=HEALED_WITHIN)
        live.until_condition("ByokKey", team.key, ("Ready", "False", "KeyDeactivated"), within=HEALED_WITHIN)


@pytest.mark.timeout(300)
def test_an_operator_killed_while_it_writes_status_leaves_nothing_wrong(live: Live) -> None:
    team = found(live)
    names = [team.recipe, *(ObjectName(team.namespace, f"photo-{number}") for number in range(RECIPES))]
    live.take(*(recipe_document(name, team.key) for name in names[1:]))
    restarts = live.cluster.operator.restarts
    for _ in range(TRIES):
        live.until_ready(*(("SigningRecipe", name) for name in names), within=HEALED_WITHIN)
        # All of them are to be written after this one request.
        live.change("ByokKey", team.key, {"state": "Deactivated"})
        until(lambda: _deactivated(live, team) > 0, "a recipe's status says so", within=HEALED_WITHIN)
        live.cluster.operator.daemon.signal(signal.SIGKILL)
        # The next one waits for the Lease.
        if (written := _deactivated(live, team)) < len(names):
            break
        live.change("ByokKey", team.key, {"state": None})
    assert 0 < written < len(names)
    deactivated = ("Ready", "False", "KeyDeactivated")
    for kind, name in (*(("SigningRecipe", name) for name in names), ("ByokKey", team.key)):
        live.until_condition(kind, name, deactivated, within=HEALED_WITHIN)
    until(lambda: live.cluster.operator.restarts > restarts, "the operator was started again")
    for name in names:
        (manager,) = (m for m in live.read("SigningRecipe", name)["metadata"]["managedFields"] if m.get("subresource"))
        assert manager["manager"] == "byok-operator"


def _deactivated(live: Live, team: Team) -> int:
    """Count the team's recipes of which status says that their key is deactivated."""
    listed = live.admin.list(reference("SigningRecipe", team.recipe)).body["items"]
    conditions = [each for item in listed for each in item.get("status", {}).get("conditions", ())]
    return sum((each["type"], each["reason"]) == ("Ready", "KeyDeactivated") for each in conditions)


@pytest.mark.timeout(240)
def test_of_two_operators_the_other_takes_over_from_one_that_froze_and_is_not_undone(
    live: Live, tmp_path: Path
) -> None:
    first = live.cluster.operator
    team = found(live)
    team.until_ready()
    second = live.cluster.deployment.operator("operator-2", signers=live.cluster.signer.address)
    second.start()
    second.wait_until_ready()
    leader = holder(live)
    try:
        first.daemon.signal(signal.SIGSTOP)
        frozen = time.monotonic()
        live.change("ByokKey", team.key, {"state": "Deactivated"})
        live.until_condition("ByokKey", team.key, ("Ready", "False", "KeyDeactivated"), within=HEALED_WITHIN)
        assert holder(live) != leader
        leader = holder(live)
        until(lambda: time.monotonic() > frozen + FROZEN, "half a minute", within=FROZEN)
        version = live.read("ByokKey", team.key)["metadata"]["resourceVersion"]
        restarts = first.restarts
        first.daemon.signal(signal.SIGCONT)
        until(lambda: first.restarts > restarts, "the one that froze sees its loss and ends", within=HEALED_WITHIN)
        first.wait_until_ready()
        assert holder(live) == leader
        assert live.read("ByokKey", team.key)["metadata"]["resourceVersion"] == version
        team.until_refused(tmp_path, Reason.KeyDeactivated, within=APPLIED_WITHIN)
    finally:
        first.daemon.signal(signal.SIGCONT)
        second.stop()
    # It released the Lease when it ended; where it could not, that runs out.
    until(lambda: holder(live) not in {"", leader}, "the first one leads again", within=HEALED_WITHIN)


@pytest.mark.parametrize("operator", ["up", "down"])
def test_a_namespace_with_keys_in_use_is_deleted_and_dependants_say_so(
    live: Live, operator: str, tmp_path: Path
) -> None:
    other = found(live)
    owner = found(live, allowedConsumers={"namespaces": [other.namespace]})
    recipe = ObjectName(other.namespace, "borrowed")
    live.take(recipe_document(recipe, owner.key))
    live.until_ready(("SigningRecipe", recipe))
    if operator == "down":
        live.cluster.operator.stop()
    try:
        live.cluster.plane.kubectl("delete", "namespace", owner.namespace, "--timeout=45s")
        # Not KeyMissing: nobody learns which keys others have.
        _until_answered(other.client, recipe, tmp_path, Reason.KeyNotAllowed)
    finally:
        live.cluster.operator.start()
    live.until_condition("SigningRecipe", recipe, ("Ready", "False", "KeyNotAllowed"), within=HEALED_WITHIN)


def test_while_the_signer_is_away_keys_are_unknown_not_failed_and_come_back(live: Live) -> None:
    team = found(live)
    team.until_ready()
    live.cluster.signer.stop()
    try:
        asked = {"metadata": {"annotations": {"byok.dev/reverify": "now"}}}
        assert live.admin.patch(reference("ByokKey", team.key), asked).taken
        wanted = ("SignGranted", "Unknown", "SignerUnreachable")
        live.until_condition("ByokKey", team.key, wanted, within=HEALED_WITHIN)
        live.until_condition("ByokKey", team.key, ("Ready", "True", "LastVerified"), within=APPLIED_WITHIN)
    finally:
        live.cluster.signer.start()
    live.cluster.signer.wait_until_ready()
    live.until_condition("ByokKey", team.key, ("SignGranted", "True"), within=HEALED_WITHIN)


def test_kinds_that_are_deleted_and_applied_again_are_reconciled_again(live: Live, tmp_path: Path) -> None:
    team = found(live)
    team.until_ready()
    live.cluster.plane.kubectl("delete", "crd", "byokkeys.byok.dev", "signingrecipes.byok.dev", "--timeout=45s")
    team.until_refused(tmp_path, Reason.RecipeNotAllowed, within=APPLIED_WITHIN)
    install_crds(live.cluster.plane)
    again = found(live)
    # The presets that both extend are the operator's to bring back.
    again.until_ready(within=HEALED_WITHIN)
    again.until_signed(tmp_path, within=HEALED_WITHIN)


@pytest.mark.timeout(240)
def test_of_watches_that_are_cut_every_second_nothing_is_lost(live: Live, tmp_path: Path) -> None:
    team = found(live)
    team.until_ready()
    with Tap(live.cluster.plane.port) as relay, _behind(live, relay, team.client) as client:
        ended = threading.Event()
        cutter = threading.Thread(target=_cut_every_second, args=(relay, ended))
        cutter.start()
        try:
            deadline = time.monotonic() + MINUTE
            number = 0
            while time.monotonic() < deadline:
                number += 1
                name = ObjectName(team.namespace, f"brief-{number}")
                live.take(recipe_document(name, team.key))
                _until_answered(client, name, tmp_path, None)
                live.until_ready(("SigningRecipe", name))
                live.delete("SigningRecipe", name)
                _until_answered(client, name, tmp_path, Reason.RecipeNotAllowed)
        finally:
            ended.set()
            cutter.join()
    assert relay.accepted > MINUTE
    assert number > 3


@pytest.mark.timeout(240)
def test_a_watch_that_died_silently_is_found_out(live: Live, tmp_path: Path) -> None:
    team = found(live)
    team.until_ready()
    with Tap(live.cluster.plane.port) as relay, _behind(live, relay, team.client) as client:
        _until_answered(client, team.recipe, tmp_path, None)
        relay.silence()
        live.change("ByokKey", team.key, {"state": "Deactivated"})
        until(
            lambda: refusal(client, team.recipe, tmp_path) is Reason.KeyDeactivated,
            "the second signer refuses",
            within=SILENT_WITHIN,
        )
        live.until_condition("ByokKey", team.key, ("Ready", "False", "KeyDeactivated"), within=SILENT_WITHIN)


@contextmanager
def _behind(live: Live, relay: Tap, client: ClientSettings) -> Iterator[ClientSettings]:
    """Put signer and operator behind a relay; yields what a job needs to call that signer."""
    deployment = live.cluster.deployment
    signer = deployment.signer(f"signer-{relay.port}", api_port=relay.port)
    operator = deployment.operator(f"operator-{relay.port}", signers=signer.address, api_port=relay.port)
    live.cluster.operator.stop()
    signer.start()
    operator.start()
    try:
        signer.wait_until_ready()
        operator.wait_until_ready()
        yield replace(client, address=signer.address)
    finally:
        operator.stop()
        signer.stop()
        live.cluster.operator.start()


def _cut_every_second(relay: Tap, ended: threading.Event) -> None:
    while not ended.wait(1):
        relay.cut()


def _until_answered(client: ClientSettings, recipe: ObjectName, folder: Path, reason: Reason | None) -> None:
    until(lambda: refusal(client, recipe, folder) is reason, f"{recipe} is answered {reason}", within=APPLIED_WITHIN)

"""Two real signers and one operator: whom it asks, what it says when they disagree, and when one has not seen a change.

Both have the same role in sessions of their own, by which KMS tells them apart; one reaches the API server by a relay.
"""

import json
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import grpc.aio
import pytest

from byok_api import keypolicy
from byok_api.errors import Reason
from byok_api.keypolicy import Grantee
from byok_api.signer.v1 import signer_pb2 as pb
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_operator.signer_answers import CallFailedError, failed_call
from byok_sandbox import parts
from byok_sandbox.filling import FIRST
from tests.support.cluster_requests import until
from tests.support.live import Live, Team, found, living, reference
from tests.support.pairs import leading
from tests.testenv.service import Service
from tests.testenv.system import Cluster
from tests.testenv.tap import Tap

SECOND = "second"
"""Session of the second signer."""
FIRST_SESSION = "byok-signer"
PROBES = 6
SAID_WITHIN = 30.0
"""Seconds: a limit that a loaded machine does not reach."""
BACK_WITHIN = 30.0
"""Seconds: the same; the next trial call is let through 10 s after the first refusal."""
OTHERWISE = "see it otherwise"


@dataclass(frozen=True)
class Replicas:
    """A team, two signers that serve it, and the relay of the second one."""

    team: Team
    first: Service
    second: Service
    relay: Tap

    @property
    def live(self) -> Live:
        """The cluster."""
        return self.team.live

    def at(self, signer: Service) -> Team:
        """Have the team's job ask one of them."""
        return replace(self.team, client=replace(self.team.client, address=signer.address))

    def message(self) -> str:
        """What SignGranted says."""
        conditions = self.live.read("ByokKey", self.team.key)["status"]["conditions"]
        return next(str(each["message"]) for each in conditions if each["type"] == "SignGranted")


@pytest.fixture(scope="module")
def replicas(cluster: Cluster) -> Iterator[Replicas]:
    deployment, control = cluster.deployment, cluster.around.control
    with Tap(cluster.plane.port) as relay, living(cluster) as live:
        second = deployment.signer("signer-second", api_port=relay.port)
        keys = control.issue(parts.SIGNER_ROLE, session_name=SECOND, expires_in=3600)
        names = {"AWS_ACCESS_KEY_ID": "accessKeyId", "AWS_SECRET_ACCESS_KEY": "secretAccessKey"}
        environ = {name: keys[key] for name, key in {**names, "AWS_SESSION_TOKEN": "sessionToken"}.items()}
        second = replace(second, environ=environ)
        addresses = f"{cluster.signer.address},{second.address}"
        operator = deployment.operator("operator-of-two", signers=addresses)
        with leading(cluster, operator, second):
            team = found(live)
            team.until_ready()
            replicas = Replicas(team, cluster.signer, second, relay)
            # A signer whose health is not watched yet is not asked while there is another.
            until(partial(second_was_asked, replicas), "the second signer is asked", within=SAID_WITHIN)
            yield replicas


def second_was_asked(replicas: Replicas) -> bool:
    verify_again(replicas, f"begin-{secrets.token_hex(4)}")
    return SECOND in probes(replicas).values()


def verify_again(replicas: Replicas, word: str) -> None:
    """Ask for a probe, and wait until it was made."""
    annotation = {"metadata": {"annotations": {"byok.dev/reverify": word}}}
    assert replicas.live.admin.patch(reference("ByokKey", replicas.team.key), annotation).taken

    def handled() -> bool:
        status = replicas.live.read("ByokKey", replicas.team.key)["status"]
        return bool(status.get("lastHandledReverify") == word)

    until(handled, f"reverify {word}", within=SAID_WITHIN)


def test_each_probe_is_made_by_one_replica_and_the_replicas_take_turns(replicas: Replicas) -> None:
    before = probes(replicas)
    for number in range(PROBES):
        verify_again(replicas, f"turn-{number}")
    # By their names and not by number: KMS forgets the oldest.
    asked = Counter(session for event, session in probes(replicas).items() if event not in before)
    # More, if the time for another verification has come meanwhile.
    assert asked.total() >= PROBES
    assert asked.keys() == {FIRST_SESSION, SECOND}


def probes(replicas: Replicas) -> dict[str, str]:
    """Give, for each trial signature with the team's key that KMS was asked for, the signer's session."""
    arn = str(replicas.team.kms_key.arn)
    events = replicas.live.cluster.around.control.events()
    asked = [event for event in events if event["eventName"] == "Sign" and arn in json.dumps(event)]
    return {event["eventID"]: event["userIdentity"]["arn"].rpartition("/")[2] for event in asked}


def test_replicas_that_disagree_are_shown_until_they_agree_again(replicas: Replicas, tmp_path: Path) -> None:
    signing, refused = replicas.at(replicas.first), replicas.at(replicas.second)
    signing.sign(tmp_path)
    refused.sign(tmp_path)
    deny(replicas)
    refused.until_refused(tmp_path, Reason.KeyAccessDenied, within=SAID_WITHIN)
    signing.sign(tmp_path)
    until(partial(shows_otherwise, replicas), "both views in SignGranted", within=SAID_WITHIN)
    assert f"({replicas.second.address}) (KeyAccessDenied)" in replicas.message()
    replicas.live.until_condition("ByokKey", replicas.team.key, ("SignGranted", "True"), within=SAID_WITHIN)
    replicas.live.cluster.around.owner.grant(replicas.team.kms_key.arn, FIRST)
    refused.until_signed(tmp_path, within=BACK_WITHIN)
    replicas.live.until_condition("ByokKey", replicas.team.key, ("SignGranted", "True"), within=SAID_WITHIN)
    until(lambda: OTHERWISE not in replicas.message(), "one view in SignGranted", within=SAID_WITHIN)


def shows_otherwise(replicas: Replicas) -> bool:
    """Say whether both views are told; if not, have the key probed, which another replica does each time."""
    if OTHERWISE not in replicas.message():
        verify_again(replicas, f"view-{secrets.token_hex(4)}")
    return OTHERWISE in replicas.message()


def deny(replicas: Replicas) -> None:
    """Have KMS refuse the second signer's session only."""
    role = parts.SIGNER_ROLE.rpartition("/")[2]
    session = f"arn:aws:sts::111122223333:assumed-role/{role}/{SECOND}"
    everybody = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*"}
    one = {"Effect": "Deny", "Principal": {"AWS": session}, "Action": "kms:Sign", "Resource": "*"}
    granted = keypolicy.key_policy_statements(Grantee(parts.SIGNER_ROLE), FIRST)
    policy = {"Version": "2012-10-17", "Statement": [{**everybody, "Resource": "*"}, *granted, one]}
    owner, arn = replicas.live.cluster.around.owner, replicas.team.kms_key.arn
    owner.kms.put_key_policy(KeyId=str(arn), PolicyName="default", Policy=json.dumps(policy))


async def test_a_replica_that_has_not_seen_a_change_says_when_to_ask_again_and_status_does_not_wait_for_it(
    replicas: Replicas,
) -> None:
    team, live = replicas.team, replicas.live
    # What it was asked a moment ago it need not ask the API server.
    await probe(replicas, replicas.second, generation=1)
    replicas.relay.silence()
    try:
        live.change("ByokKey", team.key, {"description": "changed"})
        generation = live.read("ByokKey", team.key)["metadata"]["generation"]
        with pytest.raises(CallFailedError) as refused:
            await probe(replicas, replicas.second, generation=generation)
        assert (refused.value.reason, refused.value.retry_after) == (Reason.GenerationNotSeen.name, 0.1)
        until(lambda: ready_for(replicas) == generation, "Ready for the new generation", within=SAID_WITHIN)
    finally:
        replicas.relay.resume()


async def probe(replicas: Replicas, signer: Service, *, generation: int) -> None:
    """Have one signer probe the key as the operator does; CallFailedError."""
    folder, key = replicas.live.cluster.folder, replicas.team.key
    trusted = grpc.ssl_channel_credentials(replicas.live.cluster.deployment.ca_file.read_bytes())
    bearer = ("authorization", f"Bearer {(folder / 'operator' / 'token').read_text()}")
    request = pb.ProbeKeyRequest(namespace=key.namespace, name=key.name, generation=generation)
    async with grpc.aio.secure_channel(signer.address, trusted) as channel:
        stub: rpc.KeyProbeAsyncStub = rpc.KeyProbeStub(channel)
        try:
            await stub.ProbeKey(request, metadata=(bearer,), timeout=SAID_WITHIN)
        except grpc.aio.AioRpcError as error:
            raise failed_call(error, signer.address) from None


def ready_for(replicas: Replicas) -> int:
    """Give the generation for which Ready is True, or 0."""
    conditions = replicas.live.read("ByokKey", replicas.team.key)["status"]["conditions"]
    ready = next(each for each in conditions if each["type"] == "Ready")
    return int(ready["observedGeneration"]) if ready["status"] == "True" else 0

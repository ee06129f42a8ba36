"""Ten thousand calls with tokens that are worth nothing, while a good caller goes on."""

import asyncio
import itertools
import json
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from byok_api.references import ObjectName
from byok_api.signer.v1.signer_pb2 import GetRecipeRequest
from byok_api.signer.v1.signer_pb2_grpc import SignerStub
from tests.support.cluster_requests import until
from tests.support.live import Live, Team, found, refusal
from tests.testenv.control_plane import ISSUER

CALLS = 10_000
AT_ONCE = 64
REVIEWS = re.compile(r'^apiserver_request_total\{[^}]*resource="tokenreviews"[^}]*\} (\d+)$', re.MULTILINE)


def token_reviews(live: Live) -> int:
    """How many TokenReviews the API server has answered."""
    metrics = live.cluster.plane.api.request("GET", "/metrics").decode()
    return sum(int(count) for count in REVIEWS.findall(metrics))


def forged(live: Live, team: Team, **claims: object) -> str:
    """Make a token with all that the job's own has, but signed by another key, under the real one's name."""
    jwks = json.loads(live.cluster.plane.api.request("GET", "/openid/v1/jwks"))
    now = datetime.now(UTC)
    account = {"serviceaccount": {"name": "job", "uid": "1"}, "namespace": team.namespace}
    usual = {
        "iss": ISSUER,
        "aud": ["byok-signer"],
        "sub": f"system:serviceaccount:{team.namespace}:job",
        "iat": now,
        "nbf": now,
        "exp": now + timedelta(hours=1),
        "kubernetes.io": account,
    }
    key = rsa.generate_private_key(65537, 2048)
    return jwt.encode({**usual, **claims}, key, algorithm="RS256", headers={"kid": jwks["keys"][0]["kid"]})


def junk(live: Live, team: Team) -> Iterator[str]:
    """Yield tokens without end: noise, forged ones, and real ones that are meant for somebody else."""
    account = ObjectName(team.namespace, "job")
    head, payload, _ = forged(live, team).split(".")
    fixed = (
        live.cluster.plane.token(account),
        live.cluster.plane.token(account, audience="other"),
        forged(live, team, exp=datetime.now(UTC) - timedelta(hours=1)),
        f"{head}.{payload}.",
        "",
    )
    for number in itertools.count():
        # Each forged signature is another token: no cache of refused ones helps.
        yield f"{head}.{payload}.{secrets.token_urlsafe(256)}" if number % 2 else secrets.token_urlsafe(300)
        yield fixed[number % len(fixed)]


async def flood(live: Live, team: Team) -> Sequence[grpc.StatusCode]:
    """Call with each token once, so many at a time."""
    client = live.cluster.client
    credentials = grpc.ssl_channel_credentials(client.ca_file.read_bytes() if client.ca_file else None)
    tokens = itertools.islice(junk(live, team), CALLS)
    codes: list[grpc.StatusCode] = []
    async with grpc.aio.secure_channel(client.address, credentials) as channel:
        stub = SignerStub(channel)
        request = GetRecipeRequest(recipe=str(team.recipe))

        async def work() -> None:
            for token in tokens:
                try:
                    await stub.GetRecipe(request, metadata=(("authorization", f"Bearer {token}"),), timeout=30)
                    codes.append(grpc.StatusCode.OK)
                except grpc.aio.AioRpcError as error:
                    codes.append(error.code())

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return codes


@pytest.mark.timeout(240)
async def test_junk_tokens_are_refused_without_a_word_to_the_api_server_and_harm_nobody(
    live: Live, tmp_path: Path
) -> None:
    team = found(live)
    await asyncio.to_thread(until, lambda: refusal(team.client, team.recipe, tmp_path) is None, "the good caller signs")
    answers: list[object] = []
    ended = threading.Event()

    def go_on() -> None:
        while not ended.is_set():
            answers.append(refusal(team.client, team.recipe, tmp_path))

    before = token_reviews(live)
    good = asyncio.create_task(asyncio.to_thread(go_on))
    codes = await flood(live, team)
    ended.set()
    await good
    assert set(codes) == {grpc.StatusCode.UNAUTHENTICATED}
    assert len(codes) == CALLS
    assert len(answers) > 10
    assert set(answers) == {None}
    # Those of the good caller, whose token is asked about twice a minute.
    assert token_reviews(live) - before < 20

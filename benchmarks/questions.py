"""How often the signer asks the API server about callers who sign all the time."""

import asyncio
import re
import time
import urllib.request
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import grpc.aio

from benchmarks.bench import Target
from benchmarks.callers import add_callers, channel_to
from benchmarks.claims import Claims
from benchmarks.latencies import OWN
from benchmarks.load import Tally, stream
from byok_api.algorithms import SigningAlgorithm
from byok_api.assertions import METADATA_LABEL
from byok_api.signer.v1 import signer_pb2 as pb
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from tests.support.claims import created_manifest, sign
from tests.support.media import MEDIA
from tests.support.pki import identity
from tests.testenv.service import Service
from tests.testenv.system import Cluster

_CALLERS = 50
_ITEMS = 8
"""Claims of a message, so few that what all callers have under way takes about a second."""
_JOBS = "jobs"
_RECIPE = f"{OWN}/recipe-1"
_LOOK = 0.1


@dataclass(frozen=True)
class Questions:
    """What was asked while so many signatures were made."""

    signatures: int
    seconds: float
    token_reviews: int
    access_reviews: int

    def rows(self) -> list[list[str]]:
        """Write them for a table."""
        return [
            [f"signatures, by {_CALLERS} callers with a stream each", f"{self.signatures:,}"],
            ["seconds", f"{self.seconds:.0f}"],
            ["TokenReviews", f"{self.token_reviews:,}"],
            ["SubjectAccessReviews", f"{self.access_reviews:,}"],
        ]


async def count_questions(cluster: Cluster, signer: Service, signatures: int) -> Questions:
    """Have callers sign until there are so many signatures."""
    tokens = add_callers(cluster, _JOBS, _CALLERS, recipes_in=OWN)
    cluster.plane.kubectl(
        "patch",
        "byokkey",
        "key-1",
        f"--namespace={OWN}",
        "--type=merge",
        f'--patch={{"spec":{{"allowedConsumers":{{"namespaces":["{_JOBS}"]}}}}}}',
    )
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(channel_to(cluster, signer)) for _ in tokens]
        recipe_hash = await _recipe_hash(channels[0], tokens[0])
        claims = Claims.of(_claim(), recipe=_RECIPE, recipe_hash=recipe_hash)
        target = Target(signer.address, b"", "", claims, {})
        tally, before, began = Tally(), _asked(signer), time.monotonic()
        tasks = [
            asyncio.create_task(stream(replace(target, token=token), channel, tally, items=_ITEMS))
            for token, channel in zip(tokens, channels, strict=True)
        ]
        while len(tally.latencies) < signatures:
            if tally.failures:
                raise RuntimeError(f"the signer refused: {tally.failures.most_common(3)}")
            await asyncio.sleep(_LOOK)
        made, seconds, after = len(tally.latencies), time.monotonic() - began, _asked(signer)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return Questions(made, seconds, *(after[kind] - before[kind] for kind in ("TokenReview", "SubjectAccessReview")))


def _claim() -> bytes:
    """Have c2pa claim what benchmarks.objects.recipe demands."""
    about = {
        "@context": {"dc": "http://purl.org/dc/elements/1.1/", "xmp": "http://ns.adobe.com/xap/1.0/"},
        "dc:creator": ["Example Media"],
        "xmp:CreateDate": "2026-11-22T12:00:00Z",
    }
    manifest = created_manifest({"label": METADATA_LABEL, "data": about, "created": True})
    photo = MEDIA["landscape.jpg"].path.read_bytes()
    return sign(identity(SigningAlgorithm.ES256), "image/jpeg", photo, manifest).sig_structure


async def _recipe_hash(channel: grpc.aio.Channel, token: str) -> str:
    request = pb.GetRecipeRequest(recipe=_RECIPE)
    stub: rpc.SignerAsyncStub = rpc.SignerStub(channel)
    metadata = (("authorization", f"Bearer {token}"),)
    patience = time.monotonic() + 30
    while True:
        try:
            answer = await stub.GetRecipe(request, metadata=metadata, timeout=10)
        except grpc.aio.AioRpcError as error:
            # The key's owner consented a moment ago.
            if error.code() is not grpc.StatusCode.PERMISSION_DENIED or time.monotonic() > patience:
                raise
            await asyncio.sleep(_LOOK)
        else:
            return answer.effective_hash


def _asked(signer: Service) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{signer.http_port}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
    counted = {"TokenReview": 0, "SubjectAccessReview": 0}
    for kind, count in re.findall(
        r'^byok_signer_reviews_total\{kind="(\w+)",outcome="\w+"\} (\S+)$', text, re.MULTILINE
    ):
        counted[kind] += int(float(count))
    return counted

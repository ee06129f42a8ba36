"""The signer's pipeline in this process, from token to recorded signature, without gRPC around it."""

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from math import inf

from benchmarks.bench import UNLIMITED, Bench, entry, resolved
from benchmarks.claims import Template
from byok_signer.access import OwnNamespaceAccess
from byok_signer.audit import FileAuditSink
from byok_signer.authentication import JwtAuthenticator
from byok_signer.kms.port import Kms
from byok_signer.metrics import Metrics
from byok_signer.pipeline import Pipeline
from byok_signer.ports import Ports
from byok_signer.quota import Quotas
from byok_signer.work import Call, Signed
from tests.support.claims import created_claim

_PATIENCE = 30.0


@asynccontextmanager
async def pipeline_alone(
    bench: Bench, authenticator: JwtAuthenticator, kms: Kms
) -> AsyncIterator[Callable[[], Awaitable[Signed]]]:
    """Put it together as the signer does; what is given has a claim signed that was never seen before."""
    audit = FileAuditSink(bench.folder / "pipeline-alone.jsonl")
    ports = Ports(
        catalogue=resolved,
        catalogue_confirmed_at=lambda: inf,
        authenticator=authenticator,
        access=OwnNamespaceAccess(),
        kms=kms,
        quotas=Quotas(per_second=UNLIMITED, replicas=lambda: 1, clock=time.monotonic),
        audit=audit,
        metrics=Metrics(),
        now=lambda: datetime.now(UTC),
        clock=time.monotonic,
    )
    pipeline, template, token = Pipeline(ports), Template.of(created_claim().sig_structure), bench.token()
    recipe_hash = entry().recipe.hash

    async def sign() -> Signed:
        call = Call(uuid.uuid4().hex, token, time.monotonic() + _PATIENCE)
        admission = await pipeline.admit(call, "photo")
        return await pipeline.sign_claim(admission, recipe_hash, bytes(template.fresh()))

    try:
        yield sign
    finally:
        await pipeline.drain()
        await audit.close()

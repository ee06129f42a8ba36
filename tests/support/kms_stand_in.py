"""AWS KMS over HTTP for a signer in a process of its own: real signatures, as slow as a test wants them."""

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from byok_api.algorithms import SigningAlgorithm
from byok_sandbox.kms.keys import SoftwareKey
from tests.support.manifests import KEY_ARN
from tests.support.pki import identity


class KmsStandIn:
    """Holds the session's ES256 key as KEY_ARN."""

    def __init__(self) -> None:
        self.key = SoftwareKey("ECC_NIST_P256", identity(SigningAlgorithm.ES256).private_key)
        self.url = ""
        self.key_usage = "SIGN_VERIFY"
        self.signed = 0
        self.gate = asyncio.Event()
        """While clear, signatures are made and their answers held back."""
        self.gate.set()

    async def answer(self, request: web.Request) -> web.Response:
        """Answer GetPublicKey or Sign (AWS JSON 1.1)."""
        fields = await request.json()
        assert fields["KeyId"] == KEY_ARN
        answer = {"KeyId": KEY_ARN}
        if request.headers["X-Amz-Target"].endswith(".GetPublicKey"):
            spki = base64.b64encode(self.key.spki).decode()
            answer |= {"PublicKey": spki, "KeySpec": self.key.spec, "KeyUsage": self.key_usage}
            return self._respond({**answer, "SigningAlgorithms": list(self.key.algorithms)})
        message = base64.b64decode(fields["Message"])
        signature = self.key.sign(fields["SigningAlgorithm"], message, fields["MessageType"])
        self.signed += 1
        await self.gate.wait()
        answer |= {"Signature": base64.b64encode(signature).decode(), "SigningAlgorithm": fields["SigningAlgorithm"]}
        return self._respond(answer)

    def _respond(self, answer: object) -> web.Response:
        return web.json_response(answer, headers={"x-amzn-RequestId": str(uuid.uuid4())})


@asynccontextmanager
async def kms_stand_in() -> AsyncIterator[KmsStandIn]:
    """Serve on a free port of 127.0.0.1."""
    kms, application = KmsStandIn(), web.Application()
    application.router.add_post("/", kms.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kms.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield kms
    finally:
        kms.gate.set()
        await runner.cleanup()

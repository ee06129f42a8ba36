"""The RPC methods: each reads its request, has the pipeline work, and writes the answer."""
# ruff: noqa: N802 - the .proto names the methods

from collections.abc import AsyncIterator

from byok_api import signatures
from byok_api.errors import Reason, Refusal
from byok_api.signatures import SignatureError
from byok_api.signer.v1 import signer_pb2 as pb
from byok_api.signer.v1 import signer_pb2_grpc as rpc
from byok_signer.answers import recipe_response, signed_response
from byok_signer.edge import Context, Edge
from byok_signer.entries import SigningEntry
from byok_signer.pipeline import Call, Pipeline
from byok_signer.probing import Prober
from byok_signer.streams import ClaimStream


class SignerService(rpc.SignerServicer):
    """byok.signer.v1.Signer."""

    def __init__(self, pipeline: Pipeline, edge: Edge) -> None:
        self._pipeline = pipeline
        self._edge = edge
        self._streams: set[ClaimStream] = set()

    def end_streams(self) -> None:
        """Have every stream end once what it accepted is answered."""
        for stream in self._streams:
            stream.stop()

    async def GetRecipe(self, request: pb.GetRecipeRequest, context: Context) -> pb.GetRecipeResponse:
        """Answer with the effective recipe and what is needed to sign under it."""

        async def work(call: Call) -> pb.GetRecipeResponse:
            return recipe_response(await self._pipeline.check_usable(await self._pipeline.admit(call, request.recipe)))

        return await self._edge.answer("GetRecipe", context, work)

    async def SignClaim(self, request: pb.SignClaimRequest, context: Context) -> pb.SignClaimResponse:
        """Sign one claim."""

        async def work(call: Call) -> pb.SignClaimResponse:
            admission = await self._pipeline.admit(call, request.recipe)
            return signed_response(
                await self._pipeline.sign_claim(admission, request.expected_recipe_hash, request.claim)
            )

        return await self._edge.answer("SignClaim", context, work)

    async def SignDigest(self, request: pb.SignDigestRequest, context: Context) -> pb.SignClaimResponse:
        """Sign one digest."""

        async def work(call: Call) -> pb.SignClaimResponse:
            admission = await self._pipeline.admit(call, request.recipe)
            signed = await self._pipeline.sign_digest(
                admission, request.expected_recipe_hash, digest=request.digest, evidence=request.evidence
            )
            return signed_response(signed)

        return await self._edge.answer("SignDigest", context, work)

    # No generator: one that waits in `yield` is not told when the caller goes away, and cleans up at some later time.
    async def SignClaims(  # type: ignore[override]  # the stub knows generators only; grpc.aio takes both
        self, request_iterator: AsyncIterator[pb.SignClaimsRequest], context: Context
    ) -> None:
        """Sign the claims of a stream."""
        async with self._edge.serving("SignClaims", context) as call:
            stream = ClaimStream(self._pipeline, self._edge, call)
            self._streams.add(stream)
            try:
                await stream.run(request_iterator, context.write)
            finally:
                self._streams.discard(stream)

    async def Verify(self, request: pb.VerifyRequest, context: Context) -> pb.VerifyResponse:
        """Check a signature with the recipe's public key."""

        async def work(call: Call) -> pb.VerifyResponse:
            admission = await self._pipeline.admit(call, request.recipe)
            entry = admission.entry
            async with self._pipeline.recording_refusals_of(admission):
                valid = _verifies(entry, request)
            return pb.VerifyResponse(valid=valid, key=str(entry.key.name), algorithm=str(entry.algorithm))

        return await self._edge.answer("Verify", context, work)

    async def GetPublicKey(self, request: pb.GetPublicKeyRequest, context: Context) -> pb.GetPublicKeyResponse:
        """Answer with the recipe's public key and chain."""

        async def work(call: Call) -> pb.GetPublicKeyResponse:
            entry = (await self._pipeline.admit(call, request.recipe)).entry
            return pb.GetPublicKeyResponse(
                public_key=signatures.spki_of(entry.chain.public_key),
                spki_sha256=entry.chain.spki_sha256,
                algorithm=str(entry.algorithm),
                x5chain=entry.chain.ders,
                key=str(entry.key.name),
                key_arn=str(entry.key.handle.arn),
            )

        return await self._edge.answer("GetPublicKey", context, work)


class KeyProbeService(rpc.KeyProbeServicer):
    """byok.signer.v1.KeyProbe."""

    def __init__(self, prober: Prober, edge: Edge) -> None:
        self._prober = prober
        self._edge = edge

    async def ProbeKey(self, request: pb.ProbeKeyRequest, context: Context) -> pb.ProbeKeyResponse:
        """Probe one key."""

        async def work(call: Call) -> pb.ProbeKeyResponse:
            return await self._prober.probe(call, request)

        return await self._edge.answer("ProbeKey", context, work)


def _verifies(entry: SigningEntry, request: pb.VerifyRequest) -> bool:
    public_key, algorithm = entry.chain.public_key, entry.algorithm
    size = algorithm.facts.digest_size
    try:
        match request.WhichOneof("signed"):
            case "claim":
                signatures.verify(public_key, algorithm, request.signature, message=request.claim)
            case "digest" if size is None:
                raise Refusal(Reason.InvalidRequest, f"digest: {algorithm} signs the message itself; send the claim")
            case "digest" if len(request.digest) != size:
                raise Refusal(
                    Reason.InvalidRequest, f"digest: has {len(request.digest)} bytes, {algorithm} takes {size}"
                )
            case "digest":
                signatures.verify_digest(public_key, algorithm, request.signature, digest=request.digest)
            case _:
                raise Refusal(Reason.InvalidRequest, "signed: neither claim nor digest is set; set one of them")
    except SignatureError:
        return False
    return True

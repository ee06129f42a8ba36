"""The RPC methods: each has the pipeline work for a request that the gate let in, and writes the answer."""
# ruff: noqa: N802 - the .proto names the methods

from byok_api import signatures
from byok_api.errors import Reason, Refusal
from byok_api.signatures import SignatureError
from byok_api.signer.v1 import signer_pb2 as pb
from byok_signer.answers import recipe_response, signed_response
from byok_signer.certification import Certifier
from byok_signer.edge import Edge
from byok_signer.entries import SigningEntry
from byok_signer.pipeline import Pipeline
from byok_signer.probing import Prober
from byok_signer.streams import ClaimStream, OpenStream
from byok_signer.watching import OpenWatch
from byok_signer.work import Call


class SignerService:
    """byok.signer.v1.Signer."""

    def __init__(self, pipeline: Pipeline, edge: Edge) -> None:
        self.pipeline = pipeline
        self._edge = edge
        self._streams: set[ClaimStream] = set()

    def end_streams(self) -> None:
        """Have every stream end once what it accepted is answered."""
        for stream in self._streams:
            stream.stop()

    async def GetRecipe(self, request: pb.GetRecipeRequest, call: Call) -> pb.GetRecipeResponse:
        """Answer with the effective recipe and what is needed to sign under it."""
        return recipe_response(await self.pipeline.check_usable(await self.pipeline.admit(call, request.recipe)))

    async def SignClaim(self, request: pb.SignClaimRequest, call: Call) -> pb.SignClaimResponse:
        """Sign one claim."""
        admission = await self.pipeline.admit(call, request.recipe)
        return signed_response(await self.pipeline.sign_claim(admission, request.expected_recipe_hash, request.claim))

    async def SignDigest(self, request: pb.SignDigestRequest, call: Call) -> pb.SignClaimResponse:
        """Sign one digest."""
        admission = await self.pipeline.admit(call, request.recipe)
        signed = await self.pipeline.sign_digest(
            admission, request.expected_recipe_hash, digest=request.digest, evidence=request.evidence
        )
        return signed_response(signed)

    async def SignClaims(self, opened: OpenStream) -> None:
        """Sign the claims of a stream."""
        stream = ClaimStream(self.pipeline, self._edge, opened)
        self._streams.add(stream)
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)

    async def Verify(self, request: pb.VerifyRequest, call: Call) -> pb.VerifyResponse:
        """Check a signature with the recipe's public key."""
        admission = await self.pipeline.admit(call, request.recipe)
        entry = admission.entry
        async with self.pipeline.recording_refusals_of(admission):
            valid = _verifies(entry, request)
        return pb.VerifyResponse(valid=valid, key=str(entry.key.name), algorithm=str(entry.algorithm))

    async def GetPublicKey(self, request: pb.GetPublicKeyRequest, call: Call) -> pb.GetPublicKeyResponse:
        """Answer with the recipe's public key and chain."""
        entry = (await self.pipeline.admit(call, request.recipe)).entry
        return pb.GetPublicKeyResponse(
            public_key=signatures.spki_of(entry.chain.public_key),
            spki_sha256=entry.chain.spki_sha256,
            algorithm=str(entry.algorithm),
            x5chain=entry.chain.ders,
            key=str(entry.key.name),
            key_arn=str(entry.key.handle.arn),
        )


class KeyProbeService:
    """byok.signer.v1.KeyProbe."""

    def __init__(self, prober: Prober) -> None:
        self._prober = prober

    def end_watches(self) -> None:
        """Have every watch end."""
        self._prober.watchers.stop()

    async def ProbeKey(self, request: pb.ProbeKeyRequest, call: Call) -> pb.ProbeKeyResponse:
        """Probe one key."""
        return await self._prober.probe(call, request)

    async def WatchHealth(self, _: pb.WatchHealthRequest, opened: OpenWatch) -> None:
        """Tell of every key's health."""
        await self._prober.watchers.watch(opened)


class CertificationService:
    """byok.signer.v1.Certification."""

    def __init__(self, certifier: Certifier) -> None:
        self._certifier = certifier

    async def drain(self) -> None:
        """Wait for what is between intent and outcome."""
        await self._certifier.drain()

    async def CreateCertificateRequest(
        self, request: pb.CreateCertificateRequestRequest, call: Call
    ) -> pb.CreateCertificateRequestResponse:
        """Have one key's certificate request signed."""
        return await self._certifier.certify(call, request)


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

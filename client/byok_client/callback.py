"""The function that c2pa calls to have a claim signed, and what it remembers of that."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

import c2pa

from byok_api.algorithms import SigningAlgorithm
from byok_api.signer.v1.signer_pb2 import SignClaimRequest, SignClaimResponse
from byok_client.recipes import Recipe

_C2PA_ALGORITHMS = {
    SigningAlgorithm.ES256: c2pa.C2paSigningAlg.ES256,
    SigningAlgorithm.ES384: c2pa.C2paSigningAlg.ES384,
    SigningAlgorithm.ES512: c2pa.C2paSigningAlg.ES512,
    SigningAlgorithm.PS256: c2pa.C2paSigningAlg.PS256,
    SigningAlgorithm.PS384: c2pa.C2paSigningAlg.PS384,
    SigningAlgorithm.PS512: c2pa.C2paSigningAlg.PS512,
    SigningAlgorithm.ED25519: c2pa.C2paSigningAlg.ED25519,
}


class SigningCallback:
    """Signs claims under one recipe, one at a time, for c2pa.Signer.from_callback.

    The native library swallows every exception of its callback, so this keeps it: use it as a context manager around
    the signing, and the exception comes out at the end, or call `raise_error`.

        with client.signing_callback("photo") as callback, callback.signer() as signer:
            builder.sign(signer, "image/jpeg", source, output)

    The manifest must carry `callback.recipe.assertion`, or the signer refuses it.
    """

    def __init__(self, recipe: Recipe, send: Callable[[SignClaimRequest], SignClaimResponse]) -> None:
        self.recipe = recipe
        self._send = send
        self.error: BaseException | None = None
        """What went wrong in the last call."""
        self.signed: SignClaimResponse | None = None
        """What the signer answered to the last call."""

    @property
    def algorithm(self) -> c2pa.C2paSigningAlg:
        """`alg` for c2pa.Signer.from_callback."""
        return _C2PA_ALGORITHMS[self.recipe.algorithm]

    @property
    def certificates(self) -> str:
        """`certs` for c2pa.Signer.from_callback: the registered chain, which the signer insists on."""
        return self.recipe.chain_pem

    @property
    def timestamp_url(self) -> str | None:
        """`tsa_url` for c2pa.Signer.from_callback: the recipe's RFC 3161 time stamp authority."""
        return self.recipe.timestamp_url

    def signer(self) -> c2pa.Signer:
        """Make c2pa's signer object of it."""
        return c2pa.Signer.from_callback(self, self.algorithm, self.certificates, self.timestamp_url)

    def __call__(self, claim: bytes) -> bytes:
        """Have the COSE Sig_structure signed; empty on failure, which is then in `error`."""
        self.error = self.signed = None
        request = SignClaimRequest(
            recipe=str(self.recipe),
            expected_recipe_hash=self.recipe.effective_hash,
            claim=claim,
        )
        try:
            self.signed = self._send(request)
        except BaseException as error:  # noqa: BLE001 - kept, and raised again outside of the native library
            self.error = error
            return b""
        return self.signed.signature

    def raise_error(self) -> None:
        """Raise what went wrong in the last call, if anything did."""
        if self.error is not None:
            raise self.error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.error is not None and (raised is None or isinstance(raised, c2pa.C2paError)):
            raise self.error from raised

"""A local time-stamping authority (RFC 3161 over HTTP), whose word is worth what the throw-away CA's is.

`python -m byok_sandbox.tsa` runs it as a process of its own.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from aiohttp import web
from asn1crypto import cms, core, tsp  # type: ignore[import-untyped]  # has no stubs
from asn1crypto import x509 as asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from byok_api.certificates import CertificateChain, parse_chain
from byok_api.errors import Refusal
from byok_sandbox.ca import SigningAuthority, name, pem_of

POLICY = "1.2.3.4.1"
"""The policy of OpenSSL's sample time-stamping authority: no real one's."""
REQUEST_SIZE_LIMIT = 4096
"""Bytes; a request with a SHA-512 imprint and a nonce has about 100."""
REQUEST_TYPE = "application/timestamp-query"
ANSWER_TYPE = "application/timestamp-reply"

_DIGEST_SIZES = {"sha256": 32, "sha384": 48, "sha512": 64}
_SERIAL_BITS = 127


@dataclass(frozen=True)
class TimeStampAuthority:
    """A key that may sign time stamps, and the chain that says so."""

    chain: CertificateChain
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, authority: SigningAuthority, *, now: datetime) -> Self:
        """Make a key and have it certified, by the CA that certifies signing keys: one anchor to trust, not two."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = name("BYOK Sandbox", "BYOK Sandbox Time Stamping")
        return cls(authority.certify_time_stamping(key.public_key(), subject, now=now), key)

    @classmethod
    def load(cls, chain_pem: str, key_pem: bytes) -> Self:
        """Read what `chain_pem` and `key_pem` give; ValueError for any other key than an elliptic curve's."""
        key = load_pem_private_key(key_pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the key of the time-stamping authority must be an elliptic curve key")  # noqa: TRY004 - it is in the file
        return cls(parse_chain(chain_pem), key)

    @property
    def chain_pem(self) -> str:
        """The chain, leaf first."""
        return pem_of(self.chain.certificates)

    @property
    def key_pem(self) -> bytes:
        """The private key, unencrypted."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def answer(self, query: bytes, *, now: datetime) -> bytes:
        """Answer a DER TimeStampReq with a DER TimeStampResp: a token, or a rejection that says why."""
        try:
            request = _read(query)
        except _RejectedError as rejected:
            status = {"status": "rejection", "status_string": [str(rejected)], "fail_info": {rejected.failure}}
            return bytes(_Rejection({"status": status}).dump())
        token = self._token(request, now)
        return bytes(tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": token}).dump())

    def _token(self, request: "_Request", now: datetime) -> cms.ContentInfo:
        info = _tst_info(request, now).dump()
        signed = {
            "version": "v3",
            "digest_algorithms": [{"algorithm": "sha256"}],
            "encap_content_info": {"content_type": "tst_info", "content": core.ParsableOctetString(info)},
            "signer_infos": [self._signer_info(info)],
        }
        if request.wants_certificates:
            signed["certificates"] = [asn1.Certificate.load(der) for der in self.chain.ders]
        return cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData(signed)})

    def _signer_info(self, info: bytes) -> cms.SignerInfo:
        leaf = asn1.Certificate.load(self.chain.ders[0])
        attributes = cms.CMSAttributes(
            [
                {"type": "content_type", "values": ["tst_info"]},
                {"type": "message_digest", "values": [hashlib.sha256(info).digest()]},
                # RFC 5816: which certificate signed is itself signed.
                {
                    "type": "signing_certificate_v2",
                    "values": [{"certs": [{"cert_hash": hashlib.sha256(self.chain.ders[0]).digest()}]}],
                },
            ],
        )
        identifier = {"issuer": leaf.issuer, "serial_number": leaf.serial_number}
        return cms.SignerInfo(
            {
                "version": "v1",
                "sid": cms.SignerIdentifier("issuer_and_serial_number", identifier),
                "digest_algorithm": {"algorithm": "sha256"},
                "signed_attrs": attributes,
                "signature_algorithm": {"algorithm": "sha256_ecdsa"},
                "signature": self.key.sign(attributes.dump(), ec.ECDSA(hashes.SHA256())),
            },
        )


@dataclass(frozen=True)
class _Request:
    imprint: tsp.MessageImprint
    nonce: int | None
    wants_certificates: bool


class _RejectedError(Exception):
    def __init__(self, failure: str, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class _Rejection(core.Sequence):  # type: ignore[misc]  # asn1crypto has no types
    # asn1crypto's TimeStampResp demands a token, which RFC 3161, section 2.4.2, leaves out here.
    _fields = [("status", tsp.PKIStatusInfo)]  # noqa: RUF012 - asn1crypto's way


def _read(query: bytes) -> _Request:
    try:
        request = tsp.TimeStampReq.load(query, strict=True)
        imprint = request["message_imprint"]
        algorithm, digest = imprint["hash_algorithm"]["algorithm"].native, imprint["hashed_message"].native
        policy, nonce, extensions = (request[field].native for field in ("req_policy", "nonce", "extensions"))
        wants_certificates, version = request["cert_req"].native, request["version"].native
    except (ValueError, TypeError) as error:
        raise _RejectedError("bad_data_format", "not a DER TimeStampReq (RFC 3161, section 2.4.1)") from error
    if version != "v1":
        raise _RejectedError("bad_request", "only version 1 of TimeStampReq is known")
    if algorithm not in _DIGEST_SIZES:
        raise _RejectedError("bad_alg", "use SHA-256, SHA-384 or SHA-512")
    if len(digest) != _DIGEST_SIZES[algorithm]:
        raise _RejectedError("bad_data_format", f"a {algorithm} imprint has {_DIGEST_SIZES[algorithm]} bytes")
    if policy not in (None, POLICY):
        raise _RejectedError("unaccepted_policy", f"the only policy here is {POLICY}")
    if extensions:
        raise _RejectedError("unaccepted_extensions", "no extension is known here")
    return _Request(imprint, nonce, wants_certificates)


def _tst_info(request: _Request, now: datetime) -> tsp.TSTInfo:
    info = {
        "version": "v1",
        "policy": POLICY,
        "message_imprint": request.imprint,
        "serial_number": secrets.randbits(_SERIAL_BITS) + 1,
        "gen_time": now.replace(microsecond=0),
        "accuracy": {"seconds": 1},
    }
    return tsp.TSTInfo(info if request.nonce is None else {**info, "nonce": request.nonce})


@contextlib.asynccontextmanager
async def serve(
    authority: TimeStampAuthority,
    *,
    clock: Callable[[], datetime],
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[str]:
    """Serve while the context lasts, and give the URL; port 0 takes a free one; OSError if the address is taken."""

    async def stamp(request: web.Request) -> web.Response:
        if request.content_type != REQUEST_TYPE:
            return web.Response(status=415, text=f"send a TimeStampReq as {REQUEST_TYPE}\n")
        return web.Response(body=authority.answer(await request.read(), now=clock()), content_type=ANSWER_TYPE)

    application = web.Application(client_max_size=REQUEST_SIZE_LIMIT)
    application.router.add_post("/", stamp)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound = runner.addresses[0]
        yield f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}/"
    finally:
        await runner.cleanup()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; exit status 0 then, 2 for what is wrong with the arguments or the address."""
    parser = argparse.ArgumentParser(
        prog="python -m byok_sandbox.tsa",
        description="A time-stamping authority. Prints one line of JSON when it listens: its address.",
    )
    parser.add_argument("--chain-file", type=Path, required=True, help="its certificate chain, PEM, leaf first")
    parser.add_argument("--key-file", type=Path, required=True, help="its private key, PEM")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default)")
    options = parser.parse_args(arguments)
    try:
        authority = TimeStampAuthority.load(options.chain_file.read_text(), options.key_file.read_bytes())
        asyncio.run(_run(authority, options.host, options.port))
    except (OSError, OverflowError, ValueError, Refusal) as error:
        parser.exit(2, f"byok_sandbox.tsa: {error}\n")
    return 0


async def _run(authority: TimeStampAuthority, host: str, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serve(authority, clock=lambda: datetime.now(UTC), host=host, port=port) as address:
        sys.stdout.write(json.dumps({"address": address}) + "\n")
        sys.stdout.flush()
        await stopped.wait()


if __name__ == "__main__":
    sys.exit(main())

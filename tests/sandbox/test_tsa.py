"""Time stamps that c2pa itself asks for and validates, and requests that are refused."""

import asyncio
import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from asn1crypto import cms, core, tsp  # type: ignore[import-untyped]  # has no stubs
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from byok_api.signatures import PublicKey
from byok_sandbox import tsa
from byok_sandbox.tsa import TimeStampAuthority
from tests.support import pki, verdicts
from tests.support.pki import NOW

IMAGE = verdicts.MEDIA / "landscape.jpg"
MESSAGE = b"what is stamped"


@pytest.fixture(scope="module")
def authority() -> TimeStampAuthority:
    return TimeStampAuthority.create(pki.authority(), now=NOW)


@pytest.fixture
async def url(authority: TimeStampAuthority) -> AsyncIterator[str]:
    async with tsa.serve(authority, clock=lambda: datetime.now(UTC)) as address:
        yield address


def _query(algorithm: str = "sha256", digest: bytes | None = None, **fields: object) -> bytes:
    imprint = {
        "hash_algorithm": {"algorithm": algorithm},
        "hashed_message": hashlib.new(algorithm, MESSAGE).digest() if digest is None else digest,
    }
    query: bytes = tsp.TimeStampReq({"version": "v1", "message_imprint": imprint, **fields}).dump()
    return query


def _codes(asset: bytes, anchors: str) -> tuple[str | None, set[str]]:
    with verdicts.read(asset, "image/jpeg", anchors) as reader:
        results = (reader.get_validation_results() or {})["activeManifest"]
        codes = {entry["code"] for kind in ("success", "informational", "failure") for entry in results[kind]}
        return reader.get_validation_state(), codes


async def test_c2pa_gets_a_stamp_and_trusts_it(url: str) -> None:
    asset = await asyncio.to_thread(verdicts.sign, IMAGE, pki.identity(), time_stamp_url=url)
    state, codes = _codes(asset, pki.trust_anchor())
    assert state == "Trusted"
    assert codes >= {"timeStamp.validated", "timeStamp.trusted", "claimSignature.insideValidity"}
    with verdicts.read(asset, "image/jpeg", pki.trust_anchor()) as reader:
        manifest = reader.get_active_manifest() or {}
    stamped = datetime.fromisoformat(manifest["signature_info"]["time"])
    assert abs(datetime.now(UTC) - stamped) < timedelta(minutes=1)


async def test_c2pa_does_not_trust_the_stamp_of_a_foreign_authority() -> None:
    foreign = TimeStampAuthority.create(pki.foreign_authority(), now=NOW)
    async with tsa.serve(foreign, clock=lambda: datetime.now(UTC)) as url:
        asset = await asyncio.to_thread(verdicts.sign, IMAGE, pki.identity(), time_stamp_url=url)
    assert "timeStamp.untrusted" in _codes(asset, pki.trust_anchor())[1]


async def test_a_stamped_asset_outlives_its_certificate(url: str) -> None:
    key = pki.identity()
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=15)
    leaf = pki.Leaf(public_key=key.public_key, validity=ends - pki.Leaf().not_before)
    short_lived = replace(key, chain=leaf.chain())
    plain = verdicts.sign(IMAGE, short_lived)
    stamped = await asyncio.to_thread(verdicts.sign, IMAGE, short_lived, time_stamp_url=url)
    assert _codes(plain, pki.trust_anchor())[0] == "Trusted"
    async with asyncio.timeout(30):
        while _codes(plain, pki.trust_anchor())[0] == "Trusted":  # noqa: ASYNC110 - the event is time passing
            await asyncio.sleep(0.1)
    assert "signingCredential.expired" in _codes(plain, pki.trust_anchor())[1]
    assert _codes(stamped, pki.trust_anchor())[0] == "Trusted"


def _status(answer: bytes) -> tsp.PKIStatusInfo:
    # asn1crypto's TimeStampResp cannot be read without a token, which a rejection has not.
    return tsp.PKIStatusInfo.load(core.Sequence.load(answer, strict=True)[0].dump())


def _granted(answer: bytes) -> cms.SignedData:
    response = tsp.TimeStampResp.load(answer, strict=True)
    assert response["status"]["status"].native == "granted"
    return response["time_stamp_token"]["content"]


def _check_signature(signed: cms.SignedData, key: PublicKey) -> None:
    """Verify as RFC 5652, section 5.4, says: the attributes are signed, and carry the content's hash."""
    (signer,) = signed["signer_infos"]
    attributes: dict[str, Any] = {item["type"].native: item["values"] for item in signer["signed_attrs"]}
    content = signed["encap_content_info"]["content"].contents
    assert attributes["message_digest"].native == [hashlib.sha256(content).digest()]
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signer["signature"].native, signer["signed_attrs"].untag().dump(), ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_a_token_binds_imprint_nonce_and_time(authority: TimeStampAuthority, algorithm: str) -> None:
    signed = _granted(authority.answer(_query(algorithm, nonce=2**63, cert_req=True), now=NOW))
    info = signed["encap_content_info"]["content"].parsed.native
    assert info["message_imprint"]["hashed_message"] == hashlib.new(algorithm, MESSAGE).digest()
    assert (info["nonce"], info["gen_time"], info["policy"]) == (2**63, NOW, tsa.POLICY)
    _check_signature(signed, authority.key.public_key())


def test_certificates_come_only_when_asked_for(authority: TimeStampAuthority) -> None:
    with_them = _granted(authority.answer(_query(cert_req=True), now=NOW))
    assert [item.chosen.dump() for item in with_them["certificates"]] == sorted(authority.chain.ders)
    without = _granted(authority.answer(_query(), now=NOW))
    assert without["certificates"].native is None


def test_no_two_stamps_share_a_serial_number(authority: TimeStampAuthority) -> None:
    answers = [_granted(authority.answer(_query(), now=NOW)) for _ in range(5)]
    assert len({answer["encap_content_info"]["content"].parsed["serial_number"].native for answer in answers}) == 5


EXTENSION = {"extn_id": "1.2.3.4", "critical": False, "extn_value": b"\x05\x00"}
REJECTED = {
    "nothing": (b"", "bad_data_format"),
    "garbage": (b"\x30\x03abc", "bad_data_format"),
    "text": (b"stamp this", "bad_data_format"),
    "more than a request": (_query() + b"\0", "bad_data_format"),
    "cut off": (_query()[:-1], "bad_data_format"),
    "SHA-1": (_query("sha1"), "bad_alg"),
    "imprint too short": (_query(digest=b"short"), "bad_data_format"),
    "another policy": (_query(req_policy="1.2.3.4.5"), "unaccepted_policy"),
    "an extension": (_query(extensions=[EXTENSION]), "unaccepted_extensions"),
    "a later version": (_query(version="v2"), "bad_request"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_what_cannot_be_stamped_is_rejected_by_name(authority: TimeStampAuthority, case: str) -> None:
    query, failure = REJECTED[case]
    status = _status(authority.answer(query, now=NOW)).native
    assert status["status"] == "rejection"
    assert status["fail_info"] == {failure}
    assert len(status["status_string"]) == 1


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, 200), value=st.integers(1, 255))
def test_a_damaged_query_gets_an_answer(authority: TimeStampAuthority, position: int, value: int) -> None:
    query = bytearray(_query(nonce=7, cert_req=True, req_policy=tsa.POLICY))
    query[position % len(query)] ^= value
    answer = authority.answer(bytes(query), now=NOW)
    assert _status(answer)["status"].native in {"granted", "rejection"}


@pytest.mark.parametrize(
    ("content_type", "size", "status"),
    [("application/json", 10, 415), (tsa.REQUEST_TYPE, tsa.REQUEST_SIZE_LIMIT + 1, 413)],
)
async def test_what_is_no_query_is_refused_at_the_door(url: str, content_type: str, size: int, status: int) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=bytes(size), headers={"Content-Type": content_type}) as answer,
    ):
        assert answer.status == status


def _files(folder: Path, key_pem: bytes, chain_pem: str) -> list[str]:
    (folder / "key.pem").write_bytes(key_pem)
    (folder / "chain.pem").write_text(chain_pem)
    return ["--key-file", str(folder / "key.pem"), "--chain-file", str(folder / "chain.pem")]


def test_it_runs_as_a_process_until_sigterm(authority: TimeStampAuthority, tmp_path: Path) -> None:
    arguments = _files(tmp_path, authority.key_pem, authority.chain_pem)
    command = [sys.executable, "-m", "byok_sandbox.tsa", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        asset = verdicts.sign(IMAGE, pki.identity(), time_stamp_url=address)
        process.send_signal(signal.SIGTERM)
        # Well within the minute for which aiohttp would wait for kept connections.
        assert process.wait(timeout=30) == 0
    assert "timeStamp.trusted" in _codes(asset, pki.trust_anchor())[1]


RSA_KEY = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(("key", "chain"), [(RSA_KEY, None), (b"no key", None), (None, "no chain")])
def test_a_wrong_key_or_chain_is_named_and_ends_with_status_2(
    authority: TimeStampAuthority,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    key: bytes | None,
    chain: str | None,
) -> None:
    arguments = _files(tmp_path, key or authority.key_pem, chain or authority.chain_pem)
    with pytest.raises(SystemExit) as caught:
        tsa.main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("byok_sandbox.tsa: ")

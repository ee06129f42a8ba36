"""What c2pa itself makes of an asset that is signed with a chain, right or wrong."""

import io
import json
import mimetypes
from pathlib import Path

import c2pa

from tests.support.pki import Identity

MEDIA = Path(__file__).parents[2] / "examples" / "media"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
REFUSED = "refused to sign"
_MANIFEST = {
    "claim_generator_info": [{"name": "byok-tests", "version": "1"}],
    "assertions": [
        {
            "label": "c2pa.actions.v2",
            "data": {
                "actions": [
                    {
                        "action": "c2pa.created",
                        "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCreation",
                    },
                ],
            },
            "created": True,
        },
    ],
}


def mime_type(path: Path) -> str:
    """What c2pa calls the type of a file."""
    return {".docx": DOCX, ".wav": "audio/wav"}.get(path.suffix) or mimetypes.guess_type(path.name)[0] or ""


def sign(path: Path, identity: Identity, *, time_stamp_url: str | None = None) -> bytes:
    """Sign a file with c2pa alone, without any of this project's checks; C2paError if c2pa refuses."""
    context = c2pa.Context.from_dict(
        {
            "verify": {"verify_after_sign": False, "remote_manifest_fetch": False},
            "builder": {"thumbnail": {"enabled": False}},
        },
    )
    algorithm = c2pa.C2paSigningAlg[identity.algorithm.name]
    signer = c2pa.Signer.from_callback(identity.sign, algorithm, identity.chain_pem, time_stamp_url)
    signed = io.BytesIO()
    with path.open("rb") as source, c2pa.Builder(json.dumps(_MANIFEST), context=context) as builder:
        builder.sign(signer, mime_type(path), source, signed)
    return signed.getvalue()


def read(asset: bytes, mime: str, trust_anchors: str) -> c2pa.Reader:
    """Validate a signed asset; only `trust_anchors` are trusted."""
    context = c2pa.Context.from_dict(
        {
            "trust": {"trust_anchors": trust_anchors},
            "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
        },
    )
    return c2pa.Reader(mime, io.BytesIO(asset), context=context)


def verdict(identity: Identity, trust_anchors: str) -> str:
    """Sign a JPEG: `Trusted`, `Valid`, `Invalid`, or REFUSED."""
    path = MEDIA / "landscape.jpg"
    try:
        asset = sign(path, identity)
    except c2pa.C2paError:
        return REFUSED
    with read(asset, mime_type(path), trust_anchors) as reader:
        return str(reader.get_validation_state())

"""Real claims: Sig_structures as c2pa-python hands them to a signing callback, over the media of examples/media."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import c2pa
import cbor2

from byok_api.algorithms import SigningAlgorithm
from byok_api.assertions import ACTIONS_LABEL, RECIPE_LABEL, STANDARD_LABELS
from byok_signer.guard import ClaimPolicy
from byok_signer.guard.policy import TABLE_LABELS
from tests.support.pki import Identity, identity

MEDIA_FOLDER = Path(__file__).parents[2] / "examples" / "media"
MEDIA: Mapping[str, str] = MappingProxyType(
    {
        "landscape.jpg": "image/jpeg",
        "landscape.png": "image/png",
        "sunset.mp4": "video/mp4",
        "chime.wav": "audio/wav",
        "document.pdf": "application/pdf",
        "document.docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    },
)
"""Every sample, and its media type."""

Manifest = dict[str, Any]
"""A manifest definition, as c2pa.Builder takes it."""

_SETTINGS = {"builder": {"thumbnail": {"enabled": False}}, "verify": {"remote_manifest_fetch": False}}
_CREATED = {
    "action": "c2pa.created",
    "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCreation",
}


@dataclass(frozen=True)
class CapturedClaim:
    """What the callback was given, who signed, and the asset that came out."""

    sig_structure: bytes
    identity: Identity
    asset: bytes

    @property
    def policy(self) -> ClaimPolicy:
        """The least that this key and any recipe demand."""
        return policy_of(self.identity)


def policy_of(who: Identity) -> ClaimPolicy:
    """Demand the recipe and actions assertions, allow ingredients; vary it with dataclasses.replace."""
    return ClaimPolicy(
        algorithm=who.algorithm,
        x5chain=who.chain.ders,
        required_labels=frozenset({RECIPE_LABEL, ACTIONS_LABEL}),
        allowed_labels=STANDARD_LABELS | TABLE_LABELS,
        forbid_ingredients=False,
        require_ingredients=False,
    )


def created_manifest(*assertions: Mapping[str, object]) -> Manifest:
    """Define a manifest of fresh content: actions, recipe, and the given assertions."""
    manifest = edited_manifest(*assertions)
    actions = {"label": ACTIONS_LABEL, "data": {"actions": [_CREATED]}, "created": True}
    return {**manifest, "assertions": [actions, *manifest["assertions"]]}


def edited_manifest(*assertions: Mapping[str, object]) -> Manifest:
    """Define a manifest for the EDIT intent, under which c2pa adds the actions and the parent itself."""
    recipe = {"namespace": "media", "name": "photo", "version": 1, "effectiveHash": "0" * 64}
    return {
        "claim_generator_info": [{"name": "byok-tests", "version": "1.0"}],
        "title": "sample",
        "assertions": [{"label": RECIPE_LABEL, "data": recipe, "created": True}, *assertions],
    }


def sign(
    who: Identity,
    media_type: str,
    source: bytes,
    manifest: Manifest,
    *,
    prepare: Callable[[c2pa.Builder], None] = lambda _: None,
) -> CapturedClaim:
    """Sign with c2pa itself; `prepare` may set an intent or add ingredients and resources."""
    messages: list[bytes] = []

    def callback(message: bytes) -> bytes:
        messages.append(message)
        return who.sign(message)

    signer = c2pa.Signer.from_callback(callback, c2pa.C2paSigningAlg[who.algorithm.name], who.chain_pem)
    builder = c2pa.Builder(manifest, context=c2pa.Context(settings=c2pa.Settings.from_dict(_SETTINGS)))
    prepare(builder)
    output = io.BytesIO()
    builder.sign(signer, media_type, io.BytesIO(source), output)
    (message,) = messages
    return CapturedClaim(message, who, output.getvalue())


def created_claim(algorithm: SigningAlgorithm = SigningAlgorithm.ES256, media: str = "landscape.jpg") -> CapturedClaim:
    """Claim a fresh sample, once for each session."""
    return _created(algorithm, media)


def edited_claim(algorithm: SigningAlgorithm = SigningAlgorithm.ES256, media: str = "landscape.jpg") -> CapturedClaim:
    """Claim an edit of a signed sample, with it as parent ingredient (EDIT intent), once for each session."""
    return _edited(algorithm, media)


# Behind the two above, since a cache tells a default that is passed from one that is left out.
@cache
def _created(algorithm: SigningAlgorithm, media: str) -> CapturedClaim:
    source = (MEDIA_FOLDER / media).read_bytes()
    return sign(identity(algorithm), MEDIA[media], source, created_manifest())


@cache
def _edited(algorithm: SigningAlgorithm, media: str) -> CapturedClaim:
    source = _created(algorithm, media).asset
    return sign(identity(algorithm), MEDIA[media], source, edited_manifest(), prepare=edit)


def edit(builder: c2pa.Builder) -> None:
    """Declare an edit of the source."""
    builder.set_intent(c2pa.C2paBuilderIntent.EDIT)


@dataclass
class Parts:
    """A Sig_structure taken apart, to be changed and put together again."""

    context: Any
    header: Any
    external_aad: Any
    claim: Any

    @classmethod
    def of(cls, sig_structure: bytes) -> "Parts":
        context, header, external_aad, claim = cbor2.loads(sig_structure)
        return cls(context, cbor2.loads(header), external_aad, cbor2.loads(claim))

    def assembled(self) -> bytes:
        """Encode it all, without judging any of it."""
        return assembled(cbor2.dumps(self.header), cbor2.dumps(self.claim), self.context, self.external_aad)


def assembled(header: bytes, claim: bytes, context: object = "Signature1", external_aad: object = b"") -> bytes:
    """Put encoded pieces into a Sig_structure."""
    return cbor2.dumps([context, header, external_aad, claim])

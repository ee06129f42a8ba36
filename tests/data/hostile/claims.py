"""Attempts with the claim's own fields: what it is, whose it is, and what it says of itself."""

from typing import Any

import cbor2

from tests.data.hostile.making import Hostile, Material, payload, tried, wrapped
from tests.signer.guard.cases import Fields, claim, generator, hashed, reference, with_fields, without

_OTHER = "urn:c2pa:00000000-0000-4000-8000-000000000000"
_DATA = "c2pa.hash.data"
_ICON = "c2pa.icon"


def _renamed(old: str, new: str) -> Any:  # noqa: ANN401 - an Edit
    def change(fields: Fields) -> None:
        fields[new] = fields.pop(old)

    return claim(change)


def _version_1(fields: Fields) -> None:
    """Say the same as claim-map (C2PA 1.4) does."""
    references = fields.pop("created_assertions")
    fields["claim_generator"] = "byok-tests/1.0"
    fields["claim_generator_info"] = [fields["claim_generator_info"]]
    fields["assertions"] = references
    fields["dc:format"] = "image/jpeg"
    fields["signature"] = "self#jumbf=c2pa.signature"


def _icon_of_another_hash(fields: Fields) -> None:
    fields["created_assertions"].append({**hashed(_ICON), "hash": bytes([1]) * 32})
    fields["claim_generator_info"]["icon"] = hashed(_ICON)


def _nested(material: Material) -> bytes:
    inner = cbor2.loads(material.claim)
    return with_fields(claim=inner)(material)


def _signature(name: str, attempt: str, uri: str) -> Hostile:
    return tried(name, "signature-uri", attempt, with_fields(signature=uri))


def _field(name: str, attempt: str, key: str, value: object) -> Hostile:
    return tried(name, "value-types", attempt, with_fields(**{key: value}))


KINDS = (
    tried("claim-of-version-1", "claim-version", "A claim of version 1, which vouches for less.", claim(_version_1)),
    tried(
        "claim-of-both-versions",
        "claim-version",
        "A claim of version 2 that lists other assertions for readers of version 1.",
        with_fields(assertions=[hashed("c2pa.actions")]),
    ),
    tried("claim-in-a-claim", "known-keys", "A whole claim as a field of another.", _nested),
    tried(
        "claims-in-an-array",
        "claim-map",
        "Two claims in an array: one signature for two manifests.",
        payload(lambda data: b"\x82" + data + data),
    ),
    tried(
        "claim-in-bytes",
        "claim-map",
        "The claim wrapped in one byte string more.",
        payload(cbor2.dumps),
    ),
    tried("claim-null", "claim-map", "null, as after a failed look-up, for a claim.", wrapped(b"\xf6")),
    tried("claim-empty", "required-keys", "A claim that says nothing.", wrapped(b"\xa0")),
    tried(
        "update-manifest",
        "no-update-manifest",
        "An update manifest: without hard binding, it stands behind bytes that it has never seen.",
        claim(lambda fields: fields["created_assertions"].pop()),
    ),
    tried(
        "redaction",
        "no-redaction",
        "Takes an ingredient's assertion away in the name of the key's owner.",
        with_fields(redacted_assertions=[f"self#jumbf=/c2pa/{_OTHER}/c2pa.assertions/cawg.metadata"]),
    ),
)

KEYS = (
    tried("key-in-capitals", "known-keys", "Signature for signature.", _renamed("signature", "Signature")),
    tried(
        "key-look-alike",
        "known-keys",
        "created_assertions with a Cyrillic c: in a log the genuine one.",
        _renamed("created_assertions", "\u0441reated_assertions"),
    ),
    tried("key-with-nul", "known-keys", "alg and a NUL.", with_fields(**{"alg\0": "md5"})),
    tried("key-with-a-space", "known-keys", "alg and a space.", with_fields(**{"alg ": "md5"})),
    tried(
        "key-of-terminal-codes",
        "known-keys",
        "A key that clears the screen of whoever reads the refusal.",
        with_fields(**{"\x1b[2J\x1b[H": 0}),
    ),
    tried("key-of-a-statement", "known-keys", "An order among the claim's fields.", with_fields(order="1,000,000 EUR")),
    tried(
        "key-metadata", "known-keys", "The deprecated place for free text.", with_fields(metadata=[{"dateTime": "x"}])
    ),
    tried("instance-id-missing", "required-keys", "No instanceID: one claim for many assets.", without("instanceID")),
    tried("generator-missing", "required-keys", "Nobody made the claim.", without("claim_generator_info")),
    tried(
        "created-missing",
        "required-keys",
        "Only gathered assertions.",
        _renamed("created_assertions", "gathered_assertions"),
    ),
    tried("signature-missing", "required-keys", "No signature URI: the manifest remains unsaid.", without("signature")),
)

FIELDS = (
    _field("instance-id-number", "A number for the instanceID.", "instanceID", 1),
    _field("instance-id-bytes", "The instanceID as a byte string.", "instanceID", b"xmp.iid:1"),
    _field("instance-id-list", "Two instanceIDs.", "instanceID", ["xmp.iid:1", "xmp.iid:2"]),
    _field("instance-id-empty", "An empty instanceID.", "instanceID", ""),
    _field("instance-id-overlong", "Sixty thousand characters of instanceID.", "instanceID", "x" * 60_000),
    _field(
        "instance-id-lines",
        "An instanceID that adds a line to whatever lists it.",
        "instanceID",
        "a\nsigned: everything",
    ),
    _field("generator-list", "A list of generators, as in version 1.", "claim_generator_info", [{"name": "x"}]),
    _field("generator-text", "The generator as a text.", "claim_generator_info", "byok-tests/1.0"),
    _field("created-map", "The created assertions as a map by label.", "created_assertions", {_DATA: bytes(32)}),
    _field("created-empty", "No created assertion.", "created_assertions", []),
    _field("gathered-null", "null for the gathered assertions.", "gathered_assertions", None),
    _field("alg-list", "Two hash algorithms, for readers to choose from.", "alg", ["sha256", "md5"]),
    _field("alg-soft-map", "A map for the soft binding's algorithm.", "alg_soft", {"name": "x"}),
    _field("title-bytes", "The title as a byte string.", "dc:title", b"sample"),
    _field("title-overlong", "A contract for a title.", "dc:title", "We hereby agree " * 500),
)

GENERATOR = (
    tried(
        "generator-without-name",
        "generator-info",
        "A generator without name.",
        claim(lambda fields: fields["claim_generator_info"].pop("name")),
    ),
    tried("generator-name-number", "generator-info", "A number for its name.", generator(name=1)),
    tried(
        "generator-name-in-colour",
        "generator-info",
        "A name that rewrites the auditor's terminal.",
        generator(name="\x1b[1A\x1b[2Ktrusted"),
    ),
    tried(
        "generator-name-backwards",
        "generator-info",
        "A name with a right-to-left override: shown as another one.",
        generator(name="\u202erotidE rehtO"),
    ),
    tried(
        "generator-name-in-lines",
        "generator-info",
        "A name with a line separator that is no control character.",
        generator(name="byok\u2028signed: everything"),
    ),
    tried(
        "generator-version-list",
        "generator-info",
        "Versions for readers to choose from.",
        generator(version=["1", "2"]),
    ),
    tried(
        "generator-key-bytes",
        "generator-info",
        "A key in bytes beside the same one in text.",
        claim(lambda fields: fields["claim_generator_info"].update({b"name": "other"})),
    ),
    tried(
        "generator-icon-in-the-web",
        "reference-shape",
        "An icon that the verifier is to fetch, and so tells who verifies.",
        generator(icon="https://attacker.example/i.png"),
    ),
    tried(
        "generator-icon-elsewhere",
        "assertion-uris",
        "An icon in another manifest.",
        generator(icon={"url": f"self#jumbf=/c2pa/{_OTHER}/c2pa.assertions/{_ICON}", "hash": bytes(32)}),
    ),
    tried(
        "generator-icon-unlisted", "icon", "An icon that no list of assertions holds.", generator(icon=hashed(_ICON))
    ),
    tried(
        "generator-icon-exchanged",
        "icon",
        "A listed icon, with the hash of another picture.",
        claim(_icon_of_another_hash),
    ),
)

SIGNATURES = (
    _signature(
        "signature-relative",
        "A relative URI: the signature fits whatever manifest it is put into.",
        "self#jumbf=c2pa.signature",
    ),
    _signature(
        "signature-in-the-web", "A signature to be fetched.", f"https://attacker.example/c2pa/{_OTHER}/c2pa.signature"
    ),
    _signature(
        "signature-up-the-path",
        "A path that leaves the manifest.",
        f"self#jumbf=/c2pa/{_OTHER}/../urn:c2pa:x/c2pa.signature",
    ),
    _signature(
        "signature-in-percents", "The label in percent-encoding.", f"self#jumbf=/c2pa/{_OTHER}/%632pa.signature"
    ),
    _signature(
        "signature-of-an-old-urn",
        "A manifest's name as in version 1.",
        "self#jumbf=/c2pa/urn:uuid:00000000-0000-4000-8000-000000000000/c2pa.signature",
    ),
    _signature(
        "signature-in-the-claim", "The claim itself for the signature.", f"self#jumbf=/c2pa/{_OTHER}/c2pa.claim.v2"
    ),
    _signature(
        "signature-with-a-query",
        "Something behind the label that resolvers drop.",
        f"self#jumbf=/c2pa/{_OTHER}/c2pa.signature?x",
    ),
    _signature("signature-with-nul", "A NUL behind the label.", f"self#jumbf=/c2pa/{_OTHER}/c2pa.signature\0"),
    _signature(
        "signature-with-a-line-feed",
        "A line feed behind the label, which $ in a pattern lets pass.",
        f"self#jumbf=/c2pa/{_OTHER}/c2pa.signature\n",
    ),
    _signature(
        "signature-in-other-digits",
        "A UUID with a digit of another script.",
        f"self#jumbf=/c2pa/{_OTHER[:-1]}\u0661/c2pa.signature",
    ),
    _signature(
        "signature-of-two-manifests",
        "Two manifests in a row.",
        f"self#jumbf=/c2pa/{_OTHER}/c2pa/{_OTHER}/c2pa.signature",
    ),
    _signature(
        "signature-of-a-vendors-path", "A vendor with a slash in it.", f"self#jumbf=/c2pa/{_OTHER}:a/b/c2pa.signature"
    ),
)

ALGORITHMS = (
    tried("alg-md5", "hash-algorithms", "MD5, whose collisions are cheap.", with_fields(alg="md5")),
    tried("alg-in-capitals", "hash-algorithms", "SHA256 for sha256.", with_fields(alg="SHA256")),
    tried("alg-unsaid", "hash-algorithms", "No algorithm: each verifier takes its own.", without("alg")),
    tried("alg-of-one-reference", "hash-algorithms", "SHA-1 for the hard binding only.", reference(_DATA, alg="sha1")),
    tried(
        "alg-in-conflict",
        "hash-lengths",
        "SHA-512 for the hard binding, with 32 bytes: truncated, or another algorithm's.",
        reference(_DATA, alg="sha512"),
    ),
    tried("hash-truncated", "hash-lengths", "16 bytes of SHA-256.", reference(_DATA, hash=bytes(16))),
    tried("hash-empty", "hash-lengths", "An empty hash, which every content begins with.", reference(_DATA, hash=b"")),
    tried(
        "hash-of-a-document",
        "hash-lengths",
        "5,000 bytes of any content where a hash belongs.",
        reference(_DATA, hash=b"We hereby agree " * 312),
    ),
    tried("hash-in-hexadecimal", "reference-shape", "A hash as text.", reference(_DATA, hash="00" * 32)),
    tried(
        "reference-with-content",
        "reference-shape",
        "A reference that carries a statement besides.",
        reference(_DATA, data="1,000,000 EUR"),
    ),
    tried(
        "reference-without-hash",
        "reference-shape",
        "A reference to whatever stands there.",
        claim(lambda fields: fields["created_assertions"][0].pop("hash")),
    ),
)

CLAIMS = (*KINDS, *KEYS, *FIELDS, *GENERATOR, *SIGNATURES, *ALGORITHMS)

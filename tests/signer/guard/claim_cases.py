"""What a claim may not be or contain, whatever the recipe."""

import c2pa

from tests.signer.guard.cases import (
    Case,
    Fields,
    claim,
    claim_bytes,
    generator,
    hashed,
    missing,
    more_created,
    more_gathered,
    moved_to_gathered,
    parts,
    reference,
    with_fields,
    without,
)
from tests.support.claims import MEDIA_FOLDER, CapturedClaim, Parts, created_manifest, edited_manifest, sign

_HASH = "c2pa.hash.data"
_OTHER_MANIFEST = "urn:c2pa:00000000-0000-4000-8000-000000000000"
_ICON = "c2pa.icon"


def _replaced(value: object) -> Case:
    def change(taken: Parts) -> None:
        taken.claim = value

    return Case("claim-map", f"{value!r:.20}", parts(change))


def _update_manifest(captured: CapturedClaim) -> bytes:
    """Let c2pa itself make an update manifest, which has no hard binding."""
    manifest = {**edited_manifest(), "assertions": []}
    update = sign(
        captured.identity,
        "image/jpeg",
        captured.asset,
        manifest,
        prepare=lambda builder: builder.set_intent(c2pa.C2paBuilderIntent.UPDATE),
    )
    return update.sig_structure


def _version_1(captured: CapturedClaim) -> bytes:
    """Let c2pa itself make a claim of version 1."""
    source = (MEDIA_FOLDER / "landscape.jpg").read_bytes()
    manifest = {**created_manifest(), "claim_version": 1}
    return sign(captured.identity, "image/jpeg", source, manifest).sig_structure


def _icon_of_another_hash(fields: Fields) -> None:
    fields["created_assertions"].append({**hashed(_ICON), "hash": bytes([1]) * 32})
    fields["claim_generator_info"]["icon"] = hashed(_ICON)


def _uri(what: str, url: str) -> Case:
    return Case("assertion-uris", what, reference(_HASH, url=url))


def _signature(what: str, uri: str) -> Case:
    return Case("signature-uri", what, with_fields(signature=uri))


def _shape(what: str, item: object) -> Case:
    return Case("reference-shape", what, claim(lambda fields: fields["created_assertions"].append(item)))


CLAIM_CASES = (
    *(_replaced(value) for value in (None, 0, "a text", b"bytes", [], [{"instanceID": "x"}])),
    Case("claim-version", "one that c2pa made", _version_1),
    Case("claim-version", "the key assertions", with_fields(assertions=[])),
    Case("claim-version", "the key claim_generator", with_fields(claim_generator="old/1.0")),
    Case("claim-version", "the key dc:format", with_fields(**{"dc:format": "image/jpeg"})),
    Case("no-redaction", "a redacted assertion", with_fields(redacted_assertions=["self#jumbf=/c2pa/x"])),
    Case("no-redaction", "an empty list", with_fields(redacted_assertions=[])),
    Case("known-keys", "an unknown key", with_fields(note="hello")),
    Case("known-keys", "the deprecated metadata", with_fields(metadata=[])),
    Case("known-keys", "the deprecated specVersion", with_fields(specVersion="2.1.0")),
    Case("known-keys", "a key of control characters", with_fields(**{"\x1b[31m" * 100: 0})),
    Case("known-keys", "bytes as key", claim_bytes(lambda data: bytes([data[0] + 1]) + data[1:] + b"\x43alg\x00")),
    *(
        Case("required-keys", f"no {key}", without(key))
        for key in ("instanceID", "claim_generator_info", "signature", "created_assertions")
    ),
    Case("required-keys", "nothing at all", claim(lambda fields: fields.clear())),
    Case("value-types", "a number as instanceID", with_fields(instanceID=1)),
    Case("value-types", "an empty instanceID", with_fields(instanceID="")),
    Case("value-types", "a list of generators, as in version 1", with_fields(claim_generator_info=[{"name": "x"}])),
    Case("value-types", "bytes as signature", with_fields(signature=b"self#jumbf=c2pa.signature")),
    Case("value-types", "a map of assertions", with_fields(created_assertions={})),
    Case("value-types", "no created assertion", with_fields(created_assertions=[])),
    Case("value-types", "an empty list of gathered ones", with_fields(gathered_assertions=[])),
    Case("value-types", "null as gathered ones", with_fields(gathered_assertions=None)),
    Case("value-types", "a title of 2,000 characters", with_fields(**{"dc:title": "t" * 2000})),
    Case("value-types", "a number as title", with_fields(**{"dc:title": 1.5})),
    Case("value-types", "a number as alg", with_fields(alg=256)),
    Case("value-types", "true as alg_soft", with_fields(alg_soft=True)),
    Case("generator-info", "no name", claim(lambda fields: fields["claim_generator_info"].pop("name"))),
    Case("generator-info", "an empty name", generator(name="")),
    Case("generator-info", "a name that colours terminals", generator(name="\x1b[31mred")),
    Case("generator-info", "a number as version", generator(version=1)),
    Case("generator-info", "a list as operating system", generator(operating_system=["Linux"])),
    Case("generator-info", "a long specVersion", generator(specVersion="2." * 1000)),
    Case("generator-info", "bytes as key", claim(lambda fields: fields["claim_generator_info"].update({b"k": 1}))),
    _shape("a text", "self#jumbf=c2pa.assertions/c2pa.actions.v2__1"),
    _shape("no hash", {"url": "self#jumbf=c2pa.assertions/c2pa.actions.v2__1"}),
    _shape("no url", {"hash": bytes(32)}),
    _shape("a hash in hexadecimal", {**hashed("c2pa.metadata"), "hash": "00" * 32}),
    _shape("a url in bytes", {**hashed("c2pa.metadata"), "url": b"x"}),
    _shape("a number as alg", {**hashed("c2pa.metadata"), "alg": 5}),
    _shape("a key too many", {**hashed("c2pa.metadata"), "salt": b"x"}),
    _shape("alg and a key too many", {**hashed("c2pa.metadata"), "alg": "sha256", "salt": b"x"}),
    Case("reference-shape", "a gathered number", with_fields(gathered_assertions=[1])),
    Case("reference-shape", "an icon somewhere in the web", generator(icon="https://example.com/logo.svg")),
    _signature("a relative one", "self#jumbf=c2pa.signature"),
    _signature("one of version 1", "self#jumbf=/c2pa/urn:uuid:00000000-0000-4000-8000-000000000000/c2pa.signature"),
    _signature("of another box", f"self#jumbf=/c2pa/{_OTHER_MANIFEST}/c2pa.claim"),
    _signature("with something behind it", f"self#jumbf=/c2pa/{_OTHER_MANIFEST}/c2pa.signature/x"),
    _signature("with a line feed behind it", f"self#jumbf=/c2pa/{_OTHER_MANIFEST}/c2pa.signature\n"),
    _signature("without UUID", "self#jumbf=/c2pa/urn:c2pa:mine/c2pa.signature"),
    _signature("with a path in the vendor", f"self#jumbf=/c2pa/{_OTHER_MANIFEST}:a/b/c2pa.signature"),
    _signature("with digits of another script", f"self#jumbf=/c2pa/{_OTHER_MANIFEST[:-1]}\u0661/c2pa.signature"),
    _uri("in another manifest", f"self#jumbf=/c2pa/{_OTHER_MANIFEST}/c2pa.assertions/{_HASH}"),
    _uri("in the web", f"https://example.com/{_HASH}"),
    _uri("in another store", f"self#jumbf=c2pa.databoxes/{_HASH}"),
    _uri("without label", "self#jumbf=c2pa.assertions/"),
    _uri("a label without dots", "self#jumbf=c2pa.assertions/hash"),
    _uri("a path", f"self#jumbf=c2pa.assertions/../c2pa.assertions/{_HASH}"),
    _uri("a query", f"self#jumbf=c2pa.assertions/{_HASH}?x=1"),
    _uri("spaces", f"self#jumbf=c2pa.assertions/{_HASH} "),
    _uri("a line feed", f"self#jumbf=c2pa.assertions/{_HASH}\n"),
    _uri("instance zero", f"self#jumbf=c2pa.assertions/{_HASH}__0"),
    _uri("two instances", f"self#jumbf=c2pa.assertions/{_HASH}__1__2"),
    _uri("a label of 500 characters", f"self#jumbf=c2pa.assertions/com.{'a' * 500}"),
    Case(
        "assertion-uris",
        "an icon in another manifest",
        generator(icon={**hashed(_ICON), "url": "self#jumbf=c2pa.databoxes/c2pa.data"}),
    ),
    Case("no-duplicate-references", "a created one twice", more_created("c2pa.actions.v2")),
    Case("no-duplicate-references", "created and gathered", more_gathered("c2pa.actions.v2")),
    Case(
        "no-duplicate-references",
        "relative and absolute",
        claim(
            lambda fields: fields["created_assertions"].append(
                {
                    "url": f"{fields['signature'].removesuffix('c2pa.signature')}c2pa.assertions/{_HASH}",
                    "hash": bytes(32),
                },
            ),
        ),
    ),
    Case("icon", "not among the assertions", generator(icon=hashed(_ICON))),
    Case("icon", "with another hash", claim(_icon_of_another_hash)),
    Case("hash-algorithms", "MD5 for all", with_fields(alg="md5")),
    Case("hash-algorithms", "SHA-1 for one", reference(_HASH, alg="sha1")),
    Case("hash-algorithms", "none", without("alg")),
    Case("hash-algorithms", "another spelling", with_fields(alg="SHA-256")),
    Case("hash-lengths", "31 bytes", reference(_HASH, hash=bytes(31))),
    Case("hash-lengths", "none", reference(_HASH, hash=b"")),
    Case("hash-lengths", "32 bytes of SHA-512", reference(_HASH, alg="sha512")),
    Case("hash-lengths", "a whole document", reference(_HASH, hash=bytes(5000))),
    Case("no-update-manifest", "one that c2pa made", _update_manifest),
    Case("no-update-manifest", "no hard binding", missing(_HASH)),
    Case("one-hard-binding", "two of one kind", more_created(f"{_HASH}__1")),
    Case("one-hard-binding", "two kinds", more_created("c2pa.hash.boxes")),
    Case("one-hard-binding", "a second that is gathered", more_gathered("c2pa.hash.bmff.v3")),
    Case("one-hard-binding", "a hash over several parts", more_created("c2pa.hash.multi-asset")),
    Case("hard-binding-kind", "the deprecated bmff.v2", reference(_HASH, **hashed("c2pa.hash.bmff.v2"))),
    Case("hard-binding-kind", "one that does not exist", reference(_HASH, **hashed("c2pa.hash.nothing"))),
    Case("hard-binding-kind", "a second without a first", reference(_HASH, **hashed(f"{_HASH}__1"))),
    Case("hard-binding-created", "gathered only", moved_to_gathered(_HASH)),
)

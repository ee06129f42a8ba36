"""Writes the corpus: `python -m tests.data.hostile.generate`, from the checkout's root.

Everything follows from the files in base/, which `--new-base` makes anew, with keys that nobody keeps. The guard
compares bytes and knows no time, so it does not matter that the certificates in there expire.
"""

import argparse
from pathlib import Path

import yaml

from byok_api.algorithms import SigningAlgorithm
from tests.data.hostile.assertions import ASSERTIONS
from tests.data.hostile.claims import CLAIMS
from tests.data.hostile.digests import DIGESTS
from tests.data.hostile.encodings import ENCODINGS
from tests.data.hostile.envelopes import ENVELOPES
from tests.data.hostile.headers import HEADERS
from tests.data.hostile.making import BASE, Hostile, Material
from tests.data.hostile.strangers import STRANGERS
from tests.support.claims import created_claim
from tests.support.pki import NOW, foreign_authority, identity, new_key

FOLDER = Path(__file__).parent
MESSAGES = FOLDER / "messages"
"""One file each, `<name>.bin`."""
MANIFEST = FOLDER / "manifest.yaml"
CORPUS: tuple[Hostile, ...] = (*ENVELOPES, *HEADERS, *ENCODINGS, *CLAIMS, *ASSERTIONS, *STRANGERS, *DIGESTS)

_ALGORITHMS = (SigningAlgorithm.ES256, SigningAlgorithm.ED25519)
_HEAD = """\
# What the claim guard must refuse, and by which check. Written by `python -m tests.data.hostile.generate`; the bytes of
# each, the evidence where there is a digest, are in messages/<name>.bin.
#   check:     the one check that must refuse it, and no earlier one
#   reason:    what the caller is told
#   attempt:   what the attacker tries
#   algorithm: the key's, where it is not ES256
#   recipe:    c2pa of the recipe that it is to be signed under, where that demands anything
#   digest:    what SignDigest is to sign, in hexadecimal; all others go to SignClaim
"""


def entry_of(hostile: Hostile, digest: bytes | None) -> dict[str, object]:
    """Describe an attempt in the manifest."""
    entry: dict[str, object] = {
        "check": hostile.check,
        "reason": hostile.reason.name,
        "attempt": hostile.attempt,
    }
    if hostile.algorithm is not SigningAlgorithm.ES256:
        entry["algorithm"] = str(hostile.algorithm)
    if hostile.recipe:
        entry["recipe"] = dict(hostile.recipe)
    if digest is not None:
        entry["digest"] = digest.hex()
    return entry


def generated() -> tuple[str, dict[str, bytes]]:
    """Make the manifest, and every message by name."""
    material = {algorithm: Material.stored(algorithm) for algorithm in _ALGORITHMS}
    entries, messages = {}, {}
    for hostile in CORPUS:
        digest, messages[hostile.name] = hostile.make(material[hostile.algorithm])
        entries[hostile.name] = entry_of(hostile, digest)
    return _HEAD + yaml.safe_dump(entries, sort_keys=False, width=120), messages


def write_base() -> None:
    """Capture genuine claims, and certify an impostor under the same names."""
    BASE.mkdir(exist_ok=True)
    for algorithm in _ALGORITHMS:
        (BASE / f"genuine-{algorithm}.cbor").write_bytes(created_claim(algorithm).sig_structure)
    subject = identity(SigningAlgorithm.ES256).chain.leaf.subject
    impostor = foreign_authority().certify(new_key(SigningAlgorithm.ES256).public_key(), subject, now=NOW)
    for name, der in zip(("leaf", "issuer"), impostor.ders, strict=True):
        (BASE / f"impostor-{name}.der").write_bytes(der)


def main() -> None:
    """Write what has changed, and delete what is no more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--new-base", action="store_true", help="capture new genuine claims first")
    if parser.parse_args().new_base:
        write_base()
    manifest, messages = generated()
    MANIFEST.write_text(manifest)
    MESSAGES.mkdir(exist_ok=True)
    for path in MESSAGES.glob("*.bin"):
        if path.stem not in messages:
            path.unlink()
    for name, message in messages.items():
        (MESSAGES / f"{name}.bin").write_bytes(message)


if __name__ == "__main__":
    main()

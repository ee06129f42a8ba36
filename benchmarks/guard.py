"""Microseconds that the claim guard takes, whole and piece by piece, for real claims and for hostile messages.

Run from the checkout's root: `.venv/bin/python -m benchmarks.guard`. The target is 100 us for a typical claim.
"""

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import c2pa
from cryptography.hazmat.primitives.asymmetric import rsa
from rich.console import Console
from rich.table import Table

from byok_api.algorithms import SigningAlgorithm
from byok_api.errors import ClaimRefusal
from byok_signer.guard import SIZE_LIMIT, ClaimPolicy, cbor, check_claim, check_digest, envelope, recipe, structure
from byok_signer.guard.checks import Check
from byok_signer.guard.claim import Claim
from tests.support.claims import (
    MEDIA,
    MEDIA_FOLDER,
    CapturedClaim,
    assembled,
    created_claim,
    created_manifest,
    edit,
    edited_manifest,
    sign,
)
from tests.support.pki import Identity, authority, certified, chain_of

_ROUNDS = 150
_CALLS = 50
Measure = Callable[..., float]
PARTS = tuple(f"com.example.part-{number}" for number in range(8))


def microseconds(call: Callable[[], object], calls: int = _CALLS, rounds: int = _ROUNDS) -> float:
    """Measure CPU time of `call`: the best mean of several rounds, the one that the machine disturbed least."""
    best = float("inf")
    for _ in range(rounds):
        start = time.thread_time()
        for _ in range(calls):
            call()
        best = min(best, time.thread_time() - start)
    return best / calls * 1e6


@dataclass(frozen=True)
class Layers:
    """A claim's pieces, decoded, as the checks get them."""

    item: object
    outer: envelope.Envelope
    header_item: object
    header: envelope.Header
    fields: Mapping[str, object]
    claim: Claim

    @classmethod
    def of(cls, message: bytes) -> "Layers":
        """Decode all layers of a good message."""
        item = cbor.decode(message, cbor.SIG_STRUCTURE)
        outer = envelope.envelope_of(item)
        header_item = cbor.decode(outer.protected, cbor.PROTECTED_HEADER)
        fields = cast("Mapping[str, object]", cbor.decode(outer.claim, cbor.CLAIM))
        return cls(item, outer, header_item, envelope.header_of(header_item), fields, Claim.parse(fields))

    def checks(self, message: bytes) -> Iterator[tuple[Check[Any], object]]:
        """Pair every check with its subject."""
        stages: tuple[tuple[Sequence[Check[Any]], object], ...] = (
            (envelope.MESSAGE_CHECKS, message),
            (envelope.ENVELOPE_SHAPE, self.item),
            (envelope.ENVELOPE_CHECKS, self.outer),
            (envelope.HEADER_SHAPE, self.header_item),
            (envelope.HEADER_CHECKS, self.header),
            (structure.CLAIM_SHAPE, self.fields),
            (structure.FIELD_CHECKS, self.fields),
            (structure.CLAIM_CHECKS, self.claim),
            (recipe.RECIPE_CHECKS, self.claim),
        )
        for checks, subject in stages:
            for check in checks:
                yield check, subject


def large_identity() -> Identity:
    """Certify an RSA key of 4096 bits, with the root in its chain."""
    leaf = certified(rsa.generate_private_key(65537, 4096), SigningAlgorithm.PS512)
    return Identity(leaf.algorithm, leaf.private_key, chain_of(*leaf.chain.certificates, authority().root.certificate))


def rich_claim(who: Identity) -> CapturedClaim:
    """Claim an edit with eight more assertions and four more ingredients."""
    source = (MEDIA_FOLDER / "landscape.png").read_bytes()
    signed = sign(who, "image/png", source, created_manifest()).asset
    more = [{"label": label, "data": {"text": "x"}, "created": True} for label in PARTS]

    def prepare(builder: c2pa.Builder) -> None:
        edit(builder)
        for number in range(4):
            ingredient = {"title": f"part {number}", "relationship": "componentOf"}
            builder.add_ingredient(ingredient, MEDIA["landscape.png"], io.BytesIO(source))

    return sign(who, "image/png", signed, edited_manifest(*more), prepare=prepare)


def hostile() -> Mapping[str, bytes]:
    """Make messages of nearly 64 KiB that would cost a careless reader dearly."""
    rest = SIZE_LIMIT - 1200
    return {
        "arrays in arrays": b"\x81" * rest,
        "tags": b"\xd8\x23" * (rest // 2),
        "a list of 2^60 items": b"\x9b\x10" + b"\x00" * 7 + b"\x00" * rest,
        "a string of 2^60 bytes": b"\x5b\x10" + b"\x00" * 7 + b"\x00" * rest,
        "2,000 empty maps": b"\x99\x07\xd0" + b"\xa0" * 2000,
        "1,000 keys": b"\xb9\x03\xe8" + b"".join(b"\x64%04d\x00" % number for number in range(1000)),
        "60,000 small items": b"\x99\xea\x60" + b"\x00" * 60000,
        "one long text": b"\x79\xf0\x00" + b"a" * 0xF000,
    }


def allowing(captured: CapturedClaim) -> ClaimPolicy:
    """Demand what any recipe does, and allow the labels of `rich_claim`."""
    policy = captured.policy
    return replace(policy, allowed_labels=policy.allowed_labels | set(PARTS))


def refused(message: bytes, captured: CapturedClaim) -> str:
    """Name the check that refuses, which every hostile message must meet."""
    try:
        check_claim(message, captured.policy)
    except ClaimRefusal as refusal:
        return refusal.check
    raise AssertionError("a hostile message passed the guard")


def whole_guard(claims: Mapping[str, CapturedClaim], measured: Measure) -> Table:
    """Time the two entry points."""
    table = Table("claim", "bytes", "us", "by digest, us", title="The whole guard (target: 100 us)")
    for name, captured in claims.items():
        message, policy = captured.sig_structure, allowing(captured)
        row = [name, str(len(message)), f"{measured(partial(check_claim, message, policy)):.1f}"]
        if policy.algorithm.facts.digest_size:
            digest = policy.algorithm.digest(message)
            row.append(f"{measured(partial(check_digest, digest, message, policy)):.1f}")
        table.add_row(*row)
    return table


def pieces(captured: CapturedClaim, measured: Measure) -> Table:
    """Time each layer's decoding and each check."""
    layers = Layers.of(captured.sig_structure)
    table = Table("piece", "us", title="Piece by piece, the typical claim")
    for layer, data in (
        (cbor.SIG_STRUCTURE, captured.sig_structure),
        (cbor.PROTECTED_HEADER, layers.outer.protected),
        (cbor.CLAIM, layers.outer.claim),
    ):
        table.add_row(f"decode {layer.name}", f"{measured(partial(cbor.decode, data, layer)):.2f}")
    policy = allowing(captured)
    table.add_row("claim_in", f"{measured(partial(envelope.claim_in, captured.sig_structure, policy)):.2f}")
    table.add_row("Claim.parse", f"{measured(partial(Claim.parse, layers.fields)):.2f}")
    for check, subject in layers.checks(captured.sig_structure):
        table.add_row(check.name, f"{measured(partial(check.test, subject, captured.policy)):.2f}")
    return table


def hostile_messages(captured: CapturedClaim, measured: Measure) -> Table:
    """Time refusals."""
    table = Table("hostile claim", "refused by", "us", title="Hostile messages (target: 5,000 us)")
    header = Layers.of(captured.sig_structure).outer.protected
    for name, payload in hostile().items():
        message = assembled(header, payload)
        cost = measured(partial(refused, message, captured), calls=5)
        table.add_row(name, refused(message, captured), f"{cost:.0f}")
    return table


def tables(rounds: int = _ROUNDS) -> Sequence[Table]:
    """Measure everything."""
    measured = partial(microseconds, rounds=rounds)
    typical = created_claim()
    large = large_identity()
    jpeg = (MEDIA_FOLDER / "landscape.jpg").read_bytes()
    claims = {
        "ES256, JPEG (typical)": typical,
        "Ed25519, WAV": created_claim(SigningAlgorithm.ED25519, "chime.wav"),
        "PS256, MP4": created_claim(SigningAlgorithm.PS256, "sunset.mp4"),
        "PS512, RSA-4096 with root": sign(large, "image/jpeg", jpeg, created_manifest()),
        "the same, 16 assertions": rich_claim(large),
    }
    return whole_guard(claims, measured), pieces(typical, measured), hostile_messages(typical, measured)


def main() -> None:
    """Print three tables."""
    console = Console()
    for table in tables():
        console.print(table)


if __name__ == "__main__":
    main()

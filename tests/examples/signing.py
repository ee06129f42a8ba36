"""A photo that c2pa signs with `byok-sign`, as docs/clients.md tells."""

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import c2pa

from byok_client import ClientSettings
from tests.examples.programs import Program

REPOSITORY = Path(__file__).parents[2]
PHOTO = REPOSITORY / "examples" / "media" / "landscape.jpg"
SETTINGS = {"builder": {"thumbnail": {"enabled": False}}, "verify": {"remote_manifest_fetch": False}}


def documented_manifest() -> dict[str, Any]:
    """Read the manifest definition that docs/clients.md shows; it lacks only the recipe's assertion."""
    (block,) = re.findall(r"```json\n(.*?)```", (REPOSITORY / "docs" / "clients.md").read_text(), re.DOTALL)
    manifest: dict[str, Any] = json.loads(block)
    return manifest


@dataclass(frozen=True)
class Asset:
    """What c2pa wanted signed, and the asset that came out."""

    sig_structure: bytes
    signature: bytes
    content: bytes


def sign(program: Program, settings: ClientSettings, recipe: str) -> Asset:
    """Have c2pa build a manifest, as docs/clients.md tells, and give what is to be signed to the program."""
    info = program.run(settings, f"--recipe={recipe}", "--signer-info").document
    assertion = program.run(settings, f"--recipe={recipe}", "--assertion").document
    manifest = documented_manifest()
    manifest["assertions"].append(assertion)
    arguments = [f"--recipe={recipe}", f"--recipe-hash={assertion['data']['effectiveHash']}"]
    seen: list[tuple[bytes, bytes]] = []
    ended = []

    def callback(to_be_signed: bytes) -> bytes:
        # c2patool gives what follows to every signer, beside the arguments that it was told.
        told = [f"--alg={info['alg']}", f"--reserve-size={info['reserve_size']}", "--sign-cert=chain.pem"]
        ended.append(program.run(settings, *arguments, *told, stdin=to_be_signed))
        seen.append((to_be_signed, ended[-1].output))
        return ended[-1].output

    algorithm = c2pa.C2paSigningAlg[info["alg"].upper()]
    signer = c2pa.Signer.from_callback(callback, algorithm, info["sign_cert"], info.get("tsa_url"))
    signed = io.BytesIO()
    with c2pa.Context.from_dict(SETTINGS) as context, c2pa.Builder.from_json(json.dumps(manifest), context) as builder:
        builder.sign(signer, "image/jpeg", io.BytesIO(PHOTO.read_bytes()), signed)
    assert [each.status for each in ended] == [0], ended[0].said
    ((to_be_signed, signature),) = seen
    return Asset(to_be_signed, signature, signed.getvalue())

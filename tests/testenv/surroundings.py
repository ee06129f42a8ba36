"""What stands around signer and operator: AWS, a time-stamp authority, and a key whose owner had it certified."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from byok_sandbox import parts, shipped
from byok_sandbox.ca import SigningAuthority
from byok_sandbox.filling import FIRST, CertifiedKey, Filled, fill
from byok_sandbox.kms.client import ControlClient
from byok_sandbox.owner import KeyOwner
from byok_sandbox.processes import Child
from tests.testenv.processes import Processes


@dataclass(frozen=True)
class Surroundings:
    """Running: the emulated KMS and the time-stamp authority; written: the examples, filled in."""

    control: ControlClient
    """Orders faults of the emulated KMS, makes identities, and reads its events."""
    owner: KeyOwner
    key: CertifiedKey
    """The key of the examples, granted to the signer."""
    filled: Filled
    authority: SigningAuthority
    trust_anchors: Path
    """Root of the throw-away CA, PEM: what a verifier must trust."""


@dataclass(frozen=True)
class Starting:
    """Both processes, started: the control plane can start meanwhile."""

    folder: Path
    kms: Child
    tsa: Child
    authority: SigningAuthority

    @classmethod
    def begin(cls, folder: Path, processes: Processes) -> "Starting":
        """Start them; `processes` has them ended."""
        authority = SigningAuthority.create(now=datetime.now(UTC))
        kms, tsa = parts.start_kms(folder), parts.start_tsa(folder, authority)
        for child in (kms, tsa):
            processes.adopt(child)
        return cls(folder, kms, tsa, authority)

    def wait(self) -> Surroundings:
        """Wait until both are there, then do what a key's owner does, and fill in the examples."""
        announced = self.kms.wait_for(self.kms.output, {})
        control = ControlClient(announced["address"], announced["controlToken"])
        control.put_identity(parts.SIGNER_ROLE)
        owner = KeyOwner(parts.administrator(announced), parts.SIGNER_ROLE)
        key = parts.certified_key(owner, FIRST, self.authority)
        stamping = self.tsa.wait_for(self.tsa.output, {})["address"]
        filled = fill(shipped.examples(), {FIRST: key}, timestamp_url=stamping)
        for name, text in filled.files.items():
            (self.folder / "manifests" / name).write_text(text)
        trust_anchors = self.folder / "client" / "trust-anchors.pem"
        trust_anchors.write_text(self.authority.trust_anchor_pem)
        return Surroundings(control, owner, key, filled, self.authority, trust_anchors)

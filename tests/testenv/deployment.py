"""How signer and operator are started as processes: with the flags, files and tokens that the chart gives a pod."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from byok_sandbox import parts, shipped
from tests.testenv.control_plane import ControlPlane
from tests.testenv.installed import Installation
from tests.testenv.ports import free_ports
from tests.testenv.processes import Processes
from tests.testenv.service import Service
from tests.testenv.surroundings import Surroundings

NAME = "cluster"
"""What the installation is called in external ids."""
AUDIENCE = "byok-signer"


@dataclass(frozen=True)
class Deployment:
    """Makes services, of which there may be several of a kind; none is started yet."""

    folder: Path
    plane: ControlPlane
    installation: Installation
    around: Surroundings
    processes: Processes

    @property
    def ca_file(self) -> Path:
        """What clients of the signers trust, once there is a signer."""
        return self.folder / "client" / "ca.pem"

    def signer(
        self, name: str = "signer", *, api_port: int | None = None, flags: Mapping[str, object] | None = None
    ) -> Service:
        """Make a signer; `api_port` is where it finds the API server if not at its own port."""
        port, http_port = free_ports(2)
        address = f"127.0.0.1:{port}"
        certificate, key = self.folder / "signer" / "tls.crt", self.folder / "signer" / "tls.key"
        if not key.exists():
            parts.write_server_certificate(certificate, key, self.ca_file)
        chosen = {
            "kubernetes": self.plane.kubeconfig_for(self.installation.signer_account, api_port=api_port),
            "installation": NAME,
            "presets-namespace": self.installation.namespace,
            "listen": address,
            "http-listen": f"127.0.0.1:{http_port}",
            "tls-cert-file": certificate,
            "tls-key-file": key,
            # One trail for each writer.
            "audit": self.folder / ("audit.jsonl" if name == "signer" else f"audit-{name}.jsonl"),
            "aws-endpoint": self.around.owner.access.endpoint,
            **(flags or {}),
        }
        environ = parts.signer_credentials(self.around.control)
        return Service(
            name, _command("byok_signer", chosen), self._log(name), environ, http_port, self.processes, address
        )

    def operator(
        self,
        name: str = "operator",
        *,
        signers: str,
        api_port: int | None = None,
        flags: Mapping[str, object] | None = None,
    ) -> Service:
        """Make an operator that has `signers` (HOST:PORT,...) probe; `api_port` as with a signer."""
        (http_port,) = free_ports(1)
        account = self.installation.operator_account
        token = self.folder / "operator" / "token"
        self.plane.write_token(account, token, audience=AUDIENCE)
        chosen = {
            "kubernetes": self.plane.kubeconfig_for(account, api_port=api_port),
            "installation": NAME,
            "namespace": self.installation.namespace,
            "presets-namespace": self.installation.namespace,
            "presets": shipped.presets(),
            "signers": signers,
            "signer-ca-file": self.ca_file,
            "signer-token-file": token,
            "http-listen": f"127.0.0.1:{http_port}",
            **(flags or {}),
        }
        return Service(name, _command("byok_operator", chosen), self._log(name), {}, http_port, self.processes)

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"


def _command(module: str, flags: Mapping[str, object]) -> list[str]:
    return [sys.executable, "-m", module, *(f"--{flag}={value}" for flag, value in flags.items())]

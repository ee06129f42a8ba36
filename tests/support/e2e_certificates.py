"""What certificates a job trusts, and what the signers show it, by their SHA-256."""

import hashlib
import json
import time

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates

from tests.support.client_pods import FOLDER, PYTHON
from tests.support.e2e_load import Load
from tests.testenv.kubectl import Kubectl

_HANDSHAKES = """
import hashlib, json, os, socket, ssl
host, port = os.environ["BYOK_SIGNER_ADDRESS"].rsplit(":", 1)
context = ssl.create_default_context(cafile=os.environ["BYOK_SIGNER_CA_FILE"])
context.set_alpn_protocols(["h2"])
shown = {}
for *_, address in socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM):
    plain = socket.create_connection(address[:2], timeout=5)
    with context.wrap_socket(plain, server_hostname=host) as tls:
        shown[address[0]] = hashlib.sha256(tls.getpeercert(binary_form=True)).hexdigest()
print(json.dumps(list(shown.values())))
"""


def certificates_in(pem: str) -> list[str]:
    """Give the certificates of a PEM text in their order."""
    found = load_pem_x509_certificates(pem.encode())
    return [hashlib.sha256(each.public_bytes(Encoding.DER)).hexdigest() for each in found]


def trusted_by(load: Load) -> list[str]:
    """Give those of the job's own CA file, as the kubelet keeps it now."""
    return certificates_in(load.exec("cat", f"{FOLDER}/ca.crt"))


def served_by_each(load: Load) -> list[str]:
    """Shake hands with each signer that the name leads to, as the job would; KubectlError if one is not trusted."""
    found: list[str] = json.loads(load.exec(PYTHON, "-c", _HANDSHAKES))
    return found


def remount(kubectl: Kubectl, namespace: str, pod: str) -> None:
    """Have the kubelet look after a pod's mounted files at once, as it does when a pod changes, not in a minute."""
    kubectl("annotate", "pod", pod, "--namespace", namespace, f"byok.dev/looked-at={time.time()}", "--overwrite")

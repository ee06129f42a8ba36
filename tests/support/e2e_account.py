"""The AWS account that the release's sandbox emulates: what a key's owner does there, and CloudTrail's events."""

from dataclasses import dataclass
from pathlib import Path

from tests.chart.rendering import NAMESPACE
from tests.support.client_pods import PYTHON
from tests.testenv.kubectl import Kubectl

# Of the sandbox's temporary folder: what the emulated KMS announced to its parent, and what it appends its events to.
_ANNOUNCED, _EVENTS = "/tmp/byok-sandbox-*/logs/kms.out", "/tmp/byok-sandbox-*/kms-events.jsonl"  # noqa: S108 - the pod's
_OWNER = f"""
import glob, json, sys
from byok_api.algorithms import SigningAlgorithm
from byok_api.references import KeyArn
from byok_sandbox.owner import KeyOwner
from byok_sandbox.parts import SIGNER_ROLE, administrator

what, arn, algorithm = sys.argv[1:]
(announced,) = glob.glob({_ANNOUNCED!r})
with open(announced) as file:
    told = json.loads(file.readline())
owner = KeyOwner(administrator(told), SIGNER_ROLE)
if what == "grant":
    owner.grant(KeyArn(arn), SigningAlgorithm(algorithm))
elif what == "revoke":
    owner.revoke(KeyArn(arn))
else:
    print(told["administrator"]["arn"])
"""


@dataclass(frozen=True)
class Account:
    """Reached by commands in the sandbox's pod, with the administrator's own credentials and plain boto3."""

    kubectl: Kubectl

    def grant(self, key_arn: str, algorithm: str) -> None:
        """Put the signer's statements into a key's policy."""
        self._owner("grant", key_arn, algorithm)

    def revoke(self, key_arn: str, algorithm: str) -> None:
        """Take the signer's statements out of a key's policy."""
        self._owner("revoke", key_arn, algorithm)

    @property
    def administrator(self) -> str:
        """The owner's ARN, as CloudTrail names it."""
        return self._owner("tell", "-", "-").strip()

    def write_events(self, path: Path) -> Path:
        """Write all events since the sandbox began, as CloudTrail Lake exports them: a line for each."""
        path.write_text(self._exec("sh", "-c", f"cat {_EVENTS}"))
        return path

    def _owner(self, *arguments: str) -> str:
        return self._exec(PYTHON, "-c", _OWNER, *arguments)

    def _exec(self, *command: str) -> str:
        return self.kubectl("exec", "deployment/byok-sandbox", "--namespace", NAMESPACE, "--", *command)

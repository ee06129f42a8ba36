"""The people of the admission tests. RBAC lets them write; what they are refused, a policy refuses."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.cluster_requests import Answer, Requests, administrator, grant
from tests.testenv.control_plane import ControlPlane
from tests.testenv.installed import Installation

EDITOR, OWNER = "bob@example.com", "alice@example.com"
_MESSAGES = Path(__file__).parents[2] / "data" / "cluster" / "admission_messages.yaml"


class Verdicts:
    """Names the message of the golden file by which a request was refused."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._messages: dict[str, str] = yaml.safe_load(_MESSAGES.read_text())

    def __call__(self, answer: Answer) -> str:
        """Name the message; "taken" if the request was not refused, the message itself if the golden file has none."""
        if answer.taken:
            return "taken"
        message = answer.message.replace(f"{self._namespace}-keys", "brand-keys").replace(self._namespace, "media")
        return next((name for name, golden in self._messages.items() if golden == message), message)


@pytest.fixture
def admin(control_plane: ControlPlane) -> Iterator[Requests]:
    with administrator(control_plane) as requests:
        yield requests


@pytest.fixture
def verdict(namespace: str) -> Verdicts:
    return Verdicts(namespace)


@pytest.fixture
def keys(admin: Requests, namespace: str) -> Iterator[str]:
    """A second namespace, the key owner's; messages are compared with its name being `brand-keys`."""
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{namespace}-keys"}}
    assert admin.create(document).taken
    yield f"{namespace}-keys"
    admin.delete(document)


@pytest.fixture
def editor(admin: Requests, namespace: str) -> Requests:
    """Who may write recipes, and use nothing yet; in messages the namespace is called `media`."""
    grant(admin, "byok-edit", EDITOR, namespace)
    grant(admin, "byok-view", EDITOR, namespace)
    return admin.named(EDITOR)


@pytest.fixture
def owner(admin: Requests, keys: str) -> Requests:
    """Who may write keys."""
    grant(admin, "byok-key-owner", OWNER, keys)
    return admin.named(OWNER)


@pytest.fixture
def operator(admin: Requests, installation: Installation) -> Requests:
    account = installation.operator_account
    return admin.named(f"system:serviceaccount:{account.namespace}:{account.name}")

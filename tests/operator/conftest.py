"""What several tests of the operator need."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from byok_service.kubernetes import KubernetesApi
from tests.support.consumer_keeping import OWNERS, Keeping, Server


@pytest.fixture
async def keeping(tmp_path: Path) -> AsyncIterator[Keeping]:
    async with Server() as server:
        server.put(OWNERS, {"metadata": {"name": "byok-operator"}})
        api = await KubernetesApi.connect(server.kubeconfig(tmp_path))
        yield Keeping(api, server)
        await api.close()

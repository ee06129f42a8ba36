"""The operator's own lists: the first fills the store, and one each minute finds what watches did not tell of."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from byok_operator.store import KINDS, Comparison, Kind, Store
from byok_service.kubernetes import (
    BYOK_KEYS,
    NAMESPACES,
    NOT_FOUND,
    SIGNING_RECIPES,
    ApiError,
    ApiUnavailable,
    KubernetesApi,
    Resource,
)

_LOG = logging.getLogger(__name__)
RESOURCES: Final[Mapping[Kind, Resource]] = {
    "Namespace": NAMESPACES,
    "ByokKey": BYOK_KEYS,
    "SigningRecipe": SIGNING_RECIPES,
}
_FIRST = 10.0
_PERIOD = 60.0
_RETRY_SECONDS = 2.0
_AT_ONCE = 25
"""Objects taken before others have their turn: each is read and judged, which takes a millisecond or two."""


class Lists:
    """Compares the store with the cluster; `random` gives numbers from 0 to 1, for jitter."""

    def __init__(self, api: KubernetesApi, store: Store, *, random: Callable[[], float]) -> None:
        self._api = api
        self._store = store
        self._random = random
        self._missing: dict[Kind, str] = dict.fromkeys(KINDS, "has not been listed yet")

    @property
    def missing(self) -> list[str]:
        """Say of which kinds nothing is known yet, and why; empty once all were listed."""
        return [f"{kind} {why}" for kind, why in self._missing.items()]

    async def fill(self) -> None:
        """List all kinds, again and again until each was listed once."""
        while self._missing:
            for kind in tuple(self._missing):
                await self._compare(kind)
            if self._missing:
                _LOG.warning("not all kinds could be listed", extra={"missing": self.missing})
                await asyncio.sleep(_RETRY_SECONDS * (0.5 + self._random() / 2))

    async def run(self) -> None:
        """List all kinds each minute, after `fill`; soon for the first time, since watches may begin after that."""
        period = _FIRST
        while True:
            await asyncio.sleep(period * (0.9 + self._random() / 5))
            await self.fill_again()
            period = _PERIOD

    async def fill_again(self) -> None:
        """List all kinds once; what cannot be listed stays as it is known."""
        for kind in KINDS:
            await self._compare(kind)

    async def _compare(self, kind: Kind) -> None:
        comparison = Comparison(self._store, kind)
        try:
            async for page in self._api.pages(RESOURCES[kind]):
                for start in range(0, len(page.items), _AT_ONCE):
                    comparison.page(page.items[start : start + _AT_ONCE])
                    await asyncio.sleep(0)
        except ApiUnavailable as error:
            self._failed(kind, str(error))
            return
        except ApiError as error:
            # A kind that is not installed has no objects, once it is known to have been installed before.
            if error.status != NOT_FOUND or kind in self._missing:
                self._failed(kind, _explained(error, kind))
                return
        self._missing.pop(kind, None)
        deleted = comparison.finish()
        if deleted:
            _LOG.info("found deleted what no watch told of", extra={"kind": kind, "count": deleted})

    def _failed(self, kind: Kind, cause: str) -> None:
        if kind in self._missing:
            self._missing[kind] = f"could not be listed: {cause}"
        else:
            _LOG.warning("could not be listed", extra={"kind": kind, "cause": cause})


def _explained(error: ApiError, kind: Kind) -> str:
    if error.status == NOT_FOUND:
        return f"the API server knows no {RESOURCES[kind]}; apply the CRDs (crds/)"
    return str(error)

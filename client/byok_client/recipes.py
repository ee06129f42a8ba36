"""A recipe as the signer answered it, and a bounded store of recipes that are fresh enough."""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate

from byok_api.algorithms import SigningAlgorithm
from byok_api.assertions import RECIPE_LABEL
from byok_api.errors import Reason, Refusal
from byok_api.shapes import Json
from byok_api.signer.v1.signer_pb2 import GetRecipeResponse

CACHE_SECONDS = 60.0
"""How long a recipe is used without asking again; a signer that has another by then answers RecipeChanged."""
CACHE_SIZE = 256


@dataclass(frozen=True)
class Recipe:
    """What a manifest has to meet, and the chain that will sign it (GetRecipeResponse, read and checked)."""

    namespace: str
    name: str
    version: int
    effective_hash: str
    media_type: str
    """`image`, `audio`, `video`, `text`, or empty for any."""
    required: frozenset[str]
    """Names of assertions that every asset must carry."""
    optional: frozenset[str]
    defaults: Mapping[str, Json]
    require_ingredient_chain: bool
    forbid_ingredients: bool
    timestamp_url: str | None
    algorithm: SigningAlgorithm
    chain_pem: str
    """x5chain as PEM, leaf first."""
    key: str
    """The ByokKey, as namespace/name."""
    certificate_not_after: datetime

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}@{self.version}"

    @property
    def assertion(self) -> dict[str, object]:
        """The `dev.byok.recipe` assertion that every manifest must carry, as an element of `assertions` for c2pa."""
        data = {
            "namespace": self.namespace,
            "name": self.name,
            "version": self.version,
            "effectiveHash": self.effective_hash,
        }
        return {"label": RECIPE_LABEL, "created": True, "data": data}


def recipe_of(response: GetRecipeResponse) -> Recipe:
    """Read the signer's answer; Refusal RecipeInvalid if this client cannot make sense of it."""
    try:
        return Recipe(
            namespace=response.namespace,
            name=response.name,
            version=response.version,
            effective_hash=response.effective_hash,
            media_type=response.media_type,
            required=frozenset(response.assertions),
            optional=frozenset(response.optional_assertions),
            defaults=MappingProxyType({name: json.loads(value) for name, value in response.defaults.items()}),
            require_ingredient_chain=response.require_ingredient_chain,
            forbid_ingredients=response.forbid_ingredients,
            timestamp_url=response.timestamp_url or None,
            algorithm=SigningAlgorithm(response.algorithm),
            chain_pem="".join(_pem(der) for der in response.x5chain),
            key=response.key,
            certificate_not_after=response.certificate_not_after.ToDatetime(tzinfo=UTC),
        )
    except ValueError as error:
        raise Refusal(
            Reason.RecipeInvalid,
            f"the signer's answer for {response.namespace}/{response.name} cannot be read by this client: {error}",
        ) from error


def _pem(der: bytes) -> str:
    return load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode("ascii")


class RecipeCache:
    """Recipes by the reference they were asked for; the oldest leaves when it is full. Safe to use from threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[float, Recipe]] = OrderedDict()

    def get(self, reference: str) -> Recipe | None:
        """Find a recipe that is fresh enough."""
        with self._lock:
            found = self._entries.get(reference)
        if found is None or self._clock() - found[0] >= CACHE_SECONDS:
            return None
        return found[1]

    def put(self, reference: str, recipe: Recipe) -> None:
        """Keep a recipe just fetched."""
        with self._lock:
            self._entries.pop(reference, None)
            self._entries[reference] = (self._clock(), recipe)
            while len(self._entries) > CACHE_SIZE:
                self._entries.popitem(last=False)

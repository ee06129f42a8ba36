"""Recipes as the client holds them, for tests of its pure parts."""

from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from byok_api.algorithms import SigningAlgorithm
from byok_client.recipes import Recipe

PLAIN = Recipe(
    namespace="media",
    name="photo",
    version=2,
    effective_hash="ab" * 32,
    media_type="image",
    required=frozenset(),
    optional=frozenset(),
    defaults=MappingProxyType({}),
    require_ingredient_chain=False,
    forbid_ingredients=False,
    timestamp_url=None,
    algorithm=SigningAlgorithm.ES256,
    chain_pem="",
    key="security/brand",
    certificate_not_after=datetime(2030, 1, 1, tzinfo=UTC),
)


def recipe(*required: str, **changes: Any) -> Recipe:  # noqa: ANN401 - the fields of Recipe
    """Vary PLAIN, by what it requires and any other field."""
    return replace(PLAIN, required=frozenset(required), **changes)

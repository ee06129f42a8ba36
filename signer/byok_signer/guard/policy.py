"""What one key and one recipe demand of a claim."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cbor2

from byok_api.algorithms import SigningAlgorithm
from byok_api.assertions import ACTIONS_LABEL, ASSERTIONS, RECIPE_LABEL, STANDARD_LABELS
from byok_api.resolution import EffectiveRecipe

TABLE_LABELS: frozenset[str] = frozenset(row.label for row in ASSERTIONS.values())


@dataclass(frozen=True, kw_only=True)
class ClaimPolicy:
    """A key's part (algorithm, chain) and a recipe's (the rest)."""

    algorithm: SigningAlgorithm
    x5chain: tuple[bytes, ...]
    """The key's registered certificates, DER, leaf first."""
    required_labels: frozenset[str]
    """Labels that must be among the created assertions."""
    allowed_labels: frozenset[str]
    """Labels, without `__N`, that may occur at all; the required ones among them."""
    forbid_ingredients: bool
    require_ingredients: bool

    @cached_property
    def protected_header(self) -> bytes:
        """The header that c2pa writes for this key: alg (1) and x5chain (33; RFC 9360: one certificate is no array)."""
        chain = self.x5chain[0] if len(self.x5chain) == 1 else self.x5chain
        return cbor2.dumps({1: self.algorithm.facts.cose, 33: chain})

    @cached_property
    def envelope(self) -> bytes:
        """The Sig_structure that c2pa writes for this key, up to its last item, a byte string with the claim."""
        return cbor2.dumps(["Signature1", self.protected_header, b"", b""])[:-1]


def policy_for(recipe: EffectiveRecipe, algorithm: SigningAlgorithm, x5chain: Sequence[bytes]) -> ClaimPolicy:
    """Say what a claim must meet to be signed under `recipe` by the key with this algorithm and chain."""
    # c2pa calls a manifest without an actions assertion invalid.
    required = {RECIPE_LABEL, ACTIONS_LABEL, *(ASSERTIONS[name].label for name in recipe.assertions)}
    return ClaimPolicy(
        algorithm=algorithm,
        x5chain=tuple(x5chain),
        required_labels=frozenset(required),
        allowed_labels=STANDARD_LABELS | TABLE_LABELS | required | frozenset(recipe.allowed_labels),
        forbid_ingredients=recipe.forbid_ingredients,
        require_ingredients=recipe.require_ingredient_chain,
    )

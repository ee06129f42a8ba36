"""SDK for media jobs: sign assets with C2PA manifests through the signer service, and verify them.

with SignerClient.from_environment() as client:
    result = client.sign("photo.jpg", recipe="photo", metadata={"creator": "Ada"}, output="signed.jpg")
"""

from byok_client.aio import AsyncSignerClient
from byok_client.answers import SignerError
from byok_client.callback import SigningCallback
from byok_client.client import SignerClient
from byok_client.recipes import Recipe
from byok_client.settings import ClientSettings
from byok_client.signing import SigningResult, SignOptions
from byok_client.verification import (
    Finding,
    Ingredient,
    RecipeStamp,
    Severity,
    Verdict,
    VerificationResult,
    verify_asset,
)

__all__ = [
    "AsyncSignerClient",
    "ClientSettings",
    "Finding",
    "Ingredient",
    "Recipe",
    "RecipeStamp",
    "Severity",
    "SignOptions",
    "SignerClient",
    "SignerError",
    "SigningCallback",
    "SigningResult",
    "Verdict",
    "VerificationResult",
    "verify_asset",
]

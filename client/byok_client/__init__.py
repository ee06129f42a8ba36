"""SDK for media jobs: sign assets with C2PA manifests through the signer service, and verify them.

with SignerClient.from_environment() as client:
    result = client.sign("photo.jpg", recipe="photo", metadata={"creator": "Ada"}, output="signed.jpg")
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from byok_client.aio import AsyncSignerClient
    from byok_client.answers import SignerError
    from byok_client.callback import SigningCallback
    from byok_client.client import SignerClient
    from byok_client.recipes import Recipe
    from byok_client.settings import ClientSettings
    from byok_client.signing import SigningResult, SignOptions
    from byok_client.verification import Finding, Ingredient, RecipeStamp, Severity, Verdict, VerificationResult

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
]

_HOMES = {
    "aio": ("AsyncSignerClient",),
    "answers": ("SignerError",),
    "callback": ("SigningCallback",),
    "client": ("SignerClient",),
    "recipes": ("Recipe",),
    "settings": ("ClientSettings",),
    "signing": ("SigningResult", "SignOptions"),
    "verification": ("Finding", "Ingredient", "RecipeStamp", "Severity", "Verdict", "VerificationResult"),
}


def __getattr__(name: str) -> object:
    # On first use (PEP 562): gRPC and c2pa take longer to load than `byokctl --help` to answer.
    for home, names in _HOMES.items():
        if name in names:
            found: object = getattr(import_module(f"{__name__}.{home}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The recipes that every installation ships with: their names, and how a folder of them is read."""

from pathlib import Path
from typing import Final

from byok_api.errors import Reason, Refusal
from byok_api.manifests import SIZE_LIMIT, load_documents
from byok_api.objects import parse_object
from byok_api.signingrecipe import SigningRecipe

RESERVED_NAMES: Final = frozenset(
    {"audio-basic-v1", "enterprise-strict-v1", "image-basic-v1", "text-basic-v1", "video-basic-v1"},
)
"""No recipe outside the presets' namespace may have such a name, even where the preset itself is not installed."""


def load_presets(folder: Path, namespace: str) -> tuple[SigningRecipe, ...]:
    """Read a folder of presets as recipes of `namespace`, in order of their names.

    Raises ManifestError for a bad manifest, Refusal (RecipeInvalid) for a file that cannot be read or holds something
    else.
    """
    found = []
    for path in sorted(folder.glob("*.yaml")):
        for document in load_documents(_read(path), str(path)):
            parsed = parse_object(document, str(path), namespace=namespace)
            if not isinstance(parsed, SigningRecipe) or parsed.metadata.namespace != namespace:
                raise Refusal(
                    Reason.RecipeInvalid,
                    f"{path}: a preset must be a SigningRecipe without namespace; correct kind or metadata.namespace",
                )
            found.append(parsed)
    return tuple(sorted(found, key=lambda recipe: recipe.name))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise Refusal(
            Reason.RecipeInvalid, f"{path}: cannot be read: {error.strerror}; correct its permissions"
        ) from error

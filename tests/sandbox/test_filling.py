import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_api.manifests import load_documents
from byok_api.objects import Object, parse_object
from byok_api.references import KeyArn
from byok_sandbox import shipped
from byok_sandbox.filling import CertifiedKey, Filled, fill
from byok_signer.decisions import Rules, build_catalogue
from byok_signer.entries import SigningEntry
from byok_signer.folder import FileState, merge, read_state
from tests.support.pki import identity

ALGORITHMS = (SigningAlgorithm.ES256, SigningAlgorithm.PS384)
PRESETS = "byok-system"


@pytest.fixture(scope="module")
def filled() -> Filled:
    keys = {
        algorithm: CertifiedKey(
            KeyArn(f"arn:aws:kms:eu-west-1:111122223333:key/{algorithm}"), algorithm, identity(algorithm).chain
        )
        for algorithm in ALGORITHMS
    }
    return fill(shipped.examples(), keys, timestamp_url="http://127.0.0.1:7/")


def objects_of(filled: Filled) -> list[Object]:
    return [
        parse_object(document, name)
        for name, text in filled.files.items()
        for document in load_documents(text.encode(), name)
    ]


def test_every_filled_in_manifest_can_be_applied(filled: Filled) -> None:
    names = {(found.kind, found.metadata.name) for found in objects_of(filled)}
    assert {("ByokKey", "brand"), ("ByokKey", "brand-ps384"), ("SigningRecipe", "photo-v1-ps384")} <= names


def test_each_algorithm_has_recipes_that_sign_with_its_key(filled: Filled) -> None:
    files = {name: read_state(FileState(), text.encode(), name, None) for name, text in filled.files.items()}
    for path in shipped.presets().glob("*.yaml"):
        files[str(path)] = read_state(FileState(), path.read_bytes(), str(path), PRESETS)
    merged = merge(files)
    rules = Rules(installation="test", presets_namespace=PRESETS)
    catalogue = build_catalogue(merged.objects.values(), rules, merged.namespace_labels)
    assert not merged.problems
    for algorithm in ALGORITHMS:
        for recipe in filled.recipes[algorithm].values():
            entry = catalogue.recipes[recipe]
            assert isinstance(entry, SigningEntry), entry
            assert entry.algorithm is algorithm

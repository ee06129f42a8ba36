"""byok-sign in Node.js and in Go against the real signer: what c2pa makes with it is Trusted, all else is refused."""

import urllib.request
from dataclasses import replace

import cbor2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from byok_api.algorithms import SigningAlgorithm
from byok_api.certificates import parse_chain
from byok_api.signatures import verify
from byok_client import ClientSettings
from byok_sandbox.system import Sandbox
from tests.examples.programs import Program
from tests.examples.signing import sign
from tests.support import verdicts
from tests.support.live import records

pytestmark = pytest.mark.timeout(600)  # the first test of each language builds its client


@pytest.fixture
def settings(sandbox: Sandbox) -> ClientSettings:
    # Node warns of a server that is named by its IP address.
    return replace(sandbox.client, address=sandbox.client.address.replace("127.0.0.1", "localhost"))


def recipe_of(sandbox: Sandbox, algorithm: SigningAlgorithm) -> str:
    return str(sandbox.filled.recipes[algorithm]["photo-v1"])


@pytest.mark.parametrize("algorithm", SigningAlgorithm)
def test_an_asset_that_c2pa_builds_with_it_is_trusted(
    byok_sign: Program, sandbox: Sandbox, settings: ClientSettings, algorithm: SigningAlgorithm
) -> None:
    asset = sign(byok_sign, settings, recipe_of(sandbox, algorithm))

    with verdicts.read(asset.content, "image/jpeg", sandbox.trust_anchors.read_text()) as reader:
        assert reader.get_validation_state() == "Trusted"


def answered(sandbox: Sandbox, method: str) -> float:
    """Ask the signer how many calls of a method it has answered well."""
    signer = sandbox.children[-1]
    port = signer.wait_for(signer.log, {"message": "serving"})["http_port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        families = text_string_to_metric_families(response.read().decode())
        samples = [sample for family in families for sample in family.samples]
    wanted = {"method": method, "code": "OK"}
    return sum(each.value for each in samples if each.name.endswith("requests_total") and each.labels == wanted)


@pytest.mark.parametrize(
    ("algorithm", "method"), [(SigningAlgorithm.ES256, "SignDigest"), (SigningAlgorithm.ED25519, "SignClaim")]
)
def test_a_digest_is_signed_where_there_is_one(
    byok_sign: Program, sandbox: Sandbox, settings: ClientSettings, algorithm: SigningAlgorithm, method: str
) -> None:
    before = answered(sandbox, method)
    sign(byok_sign, settings, recipe_of(sandbox, algorithm))

    assert answered(sandbox, method) == before + 1


def test_the_signature_is_recorded_with_the_claim_as_its_evidence(
    byok_sign: Program, sandbox: Sandbox, settings: ClientSettings
) -> None:
    asset = sign(byok_sign, settings, "photo-v1")

    claim = cbor2.loads(cbor2.loads(asset.sig_structure)[3])
    signed = [record for record in records(sandbox.audit) if record.get("outcome") == "signed"]
    assert signed[-1]["manifest"] in claim["signature"]
    assert signed[-1]["caller"] == "system:serviceaccount:media:media-job"


def test_a_time_stamp_authority_of_the_recipe_is_passed_on(
    byok_sign: Program, sandbox: Sandbox, settings: ClientSettings
) -> None:
    asset = sign(byok_sign, settings, "photo-v1-stamped")

    with verdicts.read(asset.content, "image/jpeg", sandbox.trust_anchors.read_text()) as reader:
        manifest = reader.get_active_manifest()
    assert manifest is not None
    assert manifest["signature_info"]["time"]


@pytest.mark.parametrize("algorithm", [SigningAlgorithm.ES256, SigningAlgorithm.PS512, SigningAlgorithm.ED25519])
def test_of_a_bare_claim_it_makes_the_very_sig_structure_that_c2pa_makes(
    byok_sign: Program, sandbox: Sandbox, settings: ClientSettings, algorithm: SigningAlgorithm
) -> None:
    recipe = recipe_of(sandbox, algorithm)
    asset = sign(byok_sign, settings, recipe)
    effective_hash = byok_sign.run(settings, f"--recipe={recipe}", "--assertion").document["data"]["effectiveHash"]

    claim = cbor2.loads(asset.sig_structure)[3]
    arguments = (f"--recipe={recipe}", f"--recipe-hash={effective_hash}", "--claim")
    signature = byok_sign.run(settings, *arguments, stdin=claim).signature

    chain = parse_chain(byok_sign.run(settings, f"--recipe={recipe}", "--signer-info").document["sign_cert"])
    verify(chain.public_key, algorithm, signature, message=asset.sig_structure)


REFUSALS = {
    "no claim": (["--recipe=photo-v1", "--recipe-hash={hash}"], b"not a claim", 1, "ClaimRefused"),
    "another hash": (["--recipe=photo-v1", "--recipe-hash=" + "0" * 64], b"", 1, "RecipeChanged"),
    "no such recipe": (["--recipe=nobody-v1", "--assertion"], b"", 1, "RecipeNotAllowed"),
    "too much": (["--recipe=photo-v1", "--recipe-hash={hash}"], bytes(65 * 1024), 1, "ClaimRefused"),
    "no recipe": (["--assertion"], b"", 2, "usage:"),
    "nothing to do": (["--recipe=photo-v1"], b"", 2, "usage:"),
    "an unknown option": (["--recipe=photo-v1", "--assertion", "--sign-everything"], b"", 2, "usage:"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_refused_is_told_with_its_reason(byok_sign: Program, settings: ClientSettings, case: str) -> None:
    arguments, stdin, status, said = REFUSALS[case]
    effective_hash = byok_sign.run(settings, "--recipe=photo-v1", "--assertion").document["data"]["effectiveHash"]

    ended = byok_sign.run(settings, *[each.format(hash=effective_hash) for each in arguments], stdin=stdin)

    assert (ended.status, ended.output) == (status, b"")
    assert said in ended.said

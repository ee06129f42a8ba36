"""`byokctl get` and `key certificate set`, against an API server in another thread."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from byok_api.errors import Reason
from byok_sandbox.ca import pem_of
from tests.support.api_server_thread import api_server_in_thread
from tests.support.command_line import Cli
from tests.support.fake_api_server import FakeApiServer
from tests.support.manifests import key_document, pem_of_identity, recipe_document
from tests.support.pki import Leaf, identity

KEYS, RECIPES = "byok.dev/byokkeys", "byok.dev/signingrecipes"
GENERATION = 1


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApiServer]:
    with api_server_in_thread() as server:
        monkeypatch.setenv("KUBECONFIG", server.kubeconfig(tmp_path))
        yield server


def _conditions(**reasons: str) -> list[dict[str, str]]:
    return [
        {
            "type": kind,
            "status": "True" if reason == "Verified" else "Unknown" if reason == "NotRequested" else "False",
            "reason": reason,
            "message": f"said of {kind}",
        }
        for kind, reason in reasons.items()
    ]


def _judged(document: dict[str, Any], generation: int = GENERATION, **reasons: str) -> dict[str, Any]:
    status = {"observedGeneration": generation, "conditions": _conditions(**reasons), "algorithm": "ES256"}
    return document | {"status": status}


def test_what_is_ready_is_told_in_a_table(cli: Cli, cluster: FakeApiServer) -> None:
    cluster.put(KEYS, _judged(key_document(), LeastPrivilege="NotRequested", Ready="Verified"))
    cluster.put(RECIPES, _judged(recipe_document(), Ready="Verified"))
    ended = cli("get")
    assert (ended.status, ended.err) == (0, "")
    heading, key, recipe = ended.out.splitlines()
    assert heading.split()[:4] == ["KIND", "NAME", "READY", "REASON"]
    assert key.split()[:5] == ["ByokKey", "media/brand", "True", "Verified", "ES256"]
    assert recipe.split()[:3] == ["SigningRecipe", "media/photo", "True"]


def test_what_stands_against_a_key_is_told_with_the_next_step(cli: Cli, cluster: FakeApiServer) -> None:
    cluster.put(KEYS, _judged(key_document(), SignGranted="KeyAccessDenied", Ready="KeyAccessDenied"))
    ended = cli("get", "keys")
    assert ended.status == 1
    *_, said, remedy = ended.out.splitlines()
    assert said == "ByokKey media/brand: SignGranted is False: KeyAccessDenied: said of SignGranted"
    assert remedy == f"  {Reason.KeyAccessDenied.facts.remedy}"
    document = cli("get", "keys", "-o", "json").document
    (condition, _) = document["ByokKey"][0]["conditions"]
    assert condition["nextStep"] == remedy.strip()


@pytest.mark.parametrize("reason", ["KeyDeactivated", "SigningDisabled"])
def test_what_only_ready_tells_is_told_with_the_next_step(cli: Cli, cluster: FakeApiServer, reason: str) -> None:
    cluster.put(RECIPES, _judged(recipe_document(), Accepted="Verified", KeyAuthorized="Verified", Ready=reason))
    ended = cli("get")
    assert ended.status == 1
    *_, said, remedy = ended.out.splitlines()
    assert said == f"SigningRecipe media/photo: Ready is False: {reason}: said of Ready"
    assert remedy == f"  {Reason[reason].facts.remedy}"


def test_what_ready_sums_up_is_told_once(cli: Cli, cluster: FakeApiServer) -> None:
    cluster.put(KEYS, _judged(key_document(), Resolved="KeyNotFound", Ready="KeyNotFound"))
    ended = cli("get", "keys")
    assert ended.out.count("KeyNotFound: said of") == 1
    assert "Ready is False" not in ended.out


def test_a_recipe_that_is_there_to_be_extended_is_asked_nothing(cli: Cli, cluster: FakeApiServer) -> None:
    cluster.put(RECIPES, _judged(recipe_document(), KeyAuthorized="NoKey", Ready="NoKey"))
    ended = cli("get")
    assert (ended.status, len(ended.out.splitlines())) == (0, 2)


def test_the_next_step_has_a_line_of_its_own_where_the_message_holds_it(cli: Cli, cluster: FakeApiServer) -> None:
    judged = _judged(key_document(), SignGranted="KeyAccessDenied", Ready="KeyAccessDenied")
    remedy = Reason.KeyAccessDenied.facts.remedy
    judged["status"]["conditions"][0]["message"] = f"KMS denies it {remedy}\nMissing policy statement:\n{{\n}}"
    cluster.put(KEYS, judged)
    *_, said, step, heading, begin, end = cli("get", "keys").out.splitlines()
    assert said.endswith("KeyAccessDenied: KMS denies it")
    assert (step, heading, begin, end) == (f"  {remedy}", "Missing policy statement:", "{", "}")


def test_a_statement_to_paste_keeps_its_lines(cli: Cli, cluster: FakeApiServer) -> None:
    judged = _judged(key_document(), SignGranted="KeyAccessDenied", Ready="KeyAccessDenied")
    judged["status"]["conditions"][0]["message"] = 'denied\nMissing:\n{\n  "Effect": "Allow"\n}'
    cluster.put(KEYS, judged)
    assert 'Missing:\n{\n  "Effect": "Allow"\n}\n' in cli("get", "keys").out


def test_a_status_of_an_older_spec_is_not_taken_for_the_present_one(cli: Cli, cluster: FakeApiServer) -> None:
    cluster.put(KEYS, _judged(key_document(), generation=0, Ready="Verified"))
    ended = cli("get", "keys", "media/brand")
    assert ended.status == 1
    assert "the operator has not looked at this state of it yet" in ended.out
    assert cli("get", "keys", "-o", "json").document["ByokKey"][0]["ready"] is None


def test_an_object_that_is_not_there_is_named(cli: Cli, cluster: FakeApiServer) -> None:
    assert cluster.port
    ended = cli("get", "recipes", "media/nothing")
    assert ended.status == 1
    assert "ObjectNotFound: signingrecipes.byok.dev media/nothing" in ended.err


def _denied(plural: str) -> web.Response:
    body = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": f'cannot list resource "{plural}"'}
    return web.json_response(body, status=403)


@pytest.mark.parametrize("arguments", [(), ("keys",)])
def test_a_denial_is_told_in_the_api_servers_words(
    cli: Cli, cluster: FakeApiServer, arguments: tuple[str, ...]
) -> None:
    cluster.answers += [_denied("byokkeys"), _denied("byokkeys")]
    ended = cli("get", *arguments)
    assert ended.status == 1
    assert "ClusterRefused" in ended.err
    assert 'cannot list resource "byokkeys"' in ended.err


def test_only_what_is_forbidden_is_left_out(cli: Cli, cluster: FakeApiServer) -> None:
    cluster.answers.append(web.json_response({"reason": "BadRequest", "message": "limit is invalid"}, status=400))
    ended = cli("get")
    assert (ended.status, "ClusterRefused: limit is invalid" in ended.err) == (1, True)


@pytest.mark.parametrize("output_format", ["text", "json"])
def test_a_kind_that_may_not_be_listed_is_left_out_where_none_was_named(
    cli: Cli, cluster: FakeApiServer, output_format: str
) -> None:
    cluster.put(RECIPES, _judged(recipe_document(), Ready="Verified"))
    cluster.answers.append(_denied("byokkeys"))
    ended = cli("get", "-n", "media", "-o", output_format)
    assert (ended.status, ended.err) == (0, "")
    if output_format == "text":
        assert "SigningRecipe  media/photo  True" in ended.out
        assert ended.out.endswith('ByokKeys are not listed: cannot list resource "byokkeys"\n')
    else:
        assert ended.document["notListed"] == {"ByokKey": 'cannot list resource "byokkeys"'}


@pytest.mark.parametrize("arguments", [(), ("keys", "media/brand")])
def test_a_cluster_without_our_kinds_is_told_of_crds(
    cli: Cli, cluster: FakeApiServer, arguments: tuple[str, ...]
) -> None:
    # What the API server answers for a group that no CRD defines.
    cluster.answers.append(web.Response(text="404 page not found\n", status=404))
    ended = cli("get", *arguments)
    assert ended.status == 1
    assert "ClusterRefused: the API server knows no byokkeys.byok.dev\n" in ended.err
    assert "apply crds/" in ended.err
    assert "rights" not in ended.err


def test_without_a_cluster_the_way_to_one_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    ended = cli("get")
    assert ended.status == 2
    assert "set KUBECONFIG" in ended.err


def test_names_without_their_kind_are_wrong_usage(cli: Cli) -> None:
    ended = cli("get", "all", "media/brand")
    assert (ended.status, "say which kind is named" in ended.err) == (2, True)


def test_a_good_chain_is_registered(cli: Cli, cluster: FakeApiServer, tmp_path: Path) -> None:
    cluster.put(KEYS, key_document(certificate=None))
    chain = tmp_path / "chain.pem"
    chain.write_text(pem_of_identity(identity()))
    ended = cli("key", "certificate", "set", "media/brand", chain)
    assert ended.status == 0, ended.err
    assert "registered with ByokKey media/brand" in ended.out
    stored = cluster.objects[KEYS]["media", "brand"]
    assert stored["spec"]["certificate"]["pem"] == chain.read_text()
    assert stored["spec"]["aws"] == key_document()["spec"]["aws"]


def test_a_chain_that_breaks_a_rule_is_not_registered(cli: Cli, cluster: FakeApiServer, tmp_path: Path) -> None:
    cluster.put(KEYS, key_document(certificate=None))
    chain = tmp_path / "chain.pem"
    chain.write_text(pem_of(Leaf(authority_key_identifier=False).chain().certificates))
    ended = cli("key", "certificate", "set", "media/brand", chain)
    assert ended.status == 1
    assert cluster.writes() == []


def test_a_chain_for_another_key_is_not_registered(cli: Cli, cluster: FakeApiServer, tmp_path: Path) -> None:
    cluster.put(KEYS, key_document(certificate=None) | {"status": {"publicKey": {"spkiSHA256": "0" * 64}}})
    chain = tmp_path / "chain.pem"
    chain.write_text(pem_of_identity(identity()))
    ended = cli("key", "certificate", "set", "media/brand", chain)
    assert (ended.status, "CertificateMismatch" in ended.err) == (1, True)
    assert cluster.writes() == []

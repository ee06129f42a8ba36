"""`byokctl verify`: verdict, organization, recipe, assertions, and codes in words."""

from pathlib import Path

import pytest

from byok_client import SignerClient
from tests.support.command_line import Cli
from tests.support.pki import ORGANIZATION, foreign_authority, trust_anchor


@pytest.fixture
def signed(client: SignerClient, photo: Path) -> Path:
    client.sign(photo, recipe="photo", metadata={"ai_generated": True})
    return photo


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    path = tmp_path / "anchors.pem"
    path.write_text(trust_anchor())
    return path


def test_a_signed_file_is_valid_and_its_organization_unproven_without_anchors(cli: Cli, signed: Path) -> None:
    ended = cli("verify", signed)
    assert ended.status == 0
    assert ended.out.startswith(f"{signed}: Valid\n")
    assert f"  organization: {ORGANIZATION} (claimed, not proven)\n" in ended.out


def test_values_are_written_as_sign_takes_them(cli: Cli, client: SignerClient, photo: Path) -> None:
    client.sign(photo, recipe="photo", metadata={"ai_generated": True, "creator": ["Ada", "Gr\u00e9ce"]})
    told = cli("verify", photo).out
    assert "\n  ai_generated = true\n" in told
    assert '\n  creator = ["Ada", "Gr\u00e9ce"]\n' in told
    assert "\n  labels: c2pa.actions.v2, dev.byok.recipe, cawg.metadata\n" in told


def test_a_code_of_several_assertions_is_one_line(cli: Cli, signed: Path) -> None:
    told = [line for line in cli("verify", signed).out.splitlines() if "assertion.hashedURI.match" in line]
    assert len(told) == 1
    assert told[0].endswith(" times)")


def test_with_anchors_it_is_trusted_and_everything_is_told(cli: Cli, signed: Path, anchors: Path) -> None:
    ended = cli("verify", signed, "--trust-anchors", anchors, "-o", "json")
    (file,) = ended.document["files"]
    assert (ended.status, file["verdict"], file["good"]) == (0, "Trusted", True)
    assert (file["organization"], file["recipe"], file["algorithm"]) == (ORGANIZATION, "media/photo@1", "ES256")
    assert file["assertions"]["ai_generated"] is True
    explained = {code["code"]: code["explanation"] for code in file["codes"]}
    assert explained["assertion.dataHash.match"] == "The asset is as it was signed."


def test_anchors_of_someone_else_make_valid_a_failure(cli: Cli, signed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_text(foreign_authority().trust_anchor_pem)
    ended = cli("verify", signed, "--trust-anchors", other)
    assert (ended.status, ended.out.startswith(f"{signed}: Valid\n")) == (1, True)
    assert "signingCredential.untrusted: No trust anchor" in ended.out


def test_an_altered_file_is_invalid_and_says_why(cli: Cli, signed: Path) -> None:
    content = bytearray(signed.read_bytes())
    content[-20] ^= 1
    signed.write_bytes(content)
    ended = cli("verify", signed)
    assert (ended.status, ended.out.startswith(f"{signed}: Invalid\n")) == (1, True)
    assert "assertion.dataHash.mismatch: The asset was altered after it was signed." in ended.out


def test_an_unsigned_file_is_not_good(cli: Cli, photo: Path) -> None:
    assert (cli("verify", photo).status, cli("verify", photo).out) == (1, f"{photo}: Unsigned\n")


def test_a_missing_file_does_not_keep_others_from_being_verified(cli: Cli, signed: Path) -> None:
    ended = cli("verify", signed.with_name("nothing.jpg"), signed, "-o", "json")
    missing, good = ended.document["files"]
    assert (ended.status, missing["error"]["reason"], good["verdict"]) == (1, "AssetUnreadable", "Valid")


def test_unusable_anchors_are_wrong_usage(cli: Cli, signed: Path) -> None:
    ended = cli("verify", signed, "--trust-anchors", signed)
    assert (ended.status, "holds no PEM certificate" in ended.err) == (2, True)


def test_a_name_cannot_steer_the_terminal(cli: Cli, signed: Path) -> None:
    hostile = signed.with_name("\x1b[31m\u202egpj.jpg")
    signed.rename(hostile)
    ended = cli("verify", hostile)
    assert "\\x1b[31m\\u202egpj.jpg: Valid" in ended.out
    assert "\x1b" not in ended.out

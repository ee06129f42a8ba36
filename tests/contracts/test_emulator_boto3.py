"""Signing on the emulated KMS, as plain boto3 sees it; moto's faults are corrected and every signature is checked."""

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.serialization import load_der_public_key

from byok_api.algorithms import SigningAlgorithm, algorithms_of
from byok_api.signatures import SignatureError, p1363_from_der, verify
from tests.support.emulator import OTHER_ACCOUNT, Aws, code_of, message_of, running_emulator

MESSAGE = b"what a claim could look like" * 20
SPECS = (
    "ECC_NIST_P256",
    "ECC_NIST_P384",
    "ECC_NIST_P521",
    "RSA_2048",
    "RSA_3072",
    "RSA_4096",
    "ECC_NIST_EDWARDS25519",
)
EVERY_PAIR = [(spec, algorithm) for spec in SPECS for algorithm in algorithms_of(spec)]


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with running_emulator() as running:
        yield running


@pytest.fixture(scope="module")
def keys(aws: Aws) -> dict[str, str]:
    return {spec: aws.new_key(spec) for spec in SPECS}


def check(aws: Aws, key_arn: str, algorithm: SigningAlgorithm, signature: bytes) -> None:
    public_key = load_der_public_key(aws.kms().get_public_key(KeyId=key_arn)["PublicKey"])
    if algorithm.facts.coordinate_size:
        signature = p1363_from_der(signature, algorithm)
    verify(public_key, algorithm, signature, message=MESSAGE)


@pytest.mark.parametrize(("spec", "algorithm"), EVERY_PAIR)
def test_a_raw_message_is_hashed_once_and_signed(
    aws: Aws, keys: dict[str, str], spec: str, algorithm: SigningAlgorithm
) -> None:
    answer = aws.kms().sign(KeyId=keys[spec], Message=MESSAGE, SigningAlgorithm=algorithm.facts.kms)
    assert (answer["KeyId"], answer["SigningAlgorithm"]) == (keys[spec], algorithm.facts.kms)
    check(aws, keys[spec], algorithm, answer["Signature"])


@pytest.mark.parametrize(("spec", "algorithm"), [pair for pair in EVERY_PAIR if pair[1].facts.digest_size])
def test_a_digest_is_signed_without_a_second_hash_and_with_a_salt_of_its_length(
    aws: Aws, keys: dict[str, str], spec: str, algorithm: SigningAlgorithm
) -> None:
    answer = aws.kms().sign(
        KeyId=keys[spec],
        Message=algorithm.digest(MESSAGE),
        MessageType="DIGEST",
        SigningAlgorithm=algorithm.facts.kms,
    )
    check(aws, keys[spec], algorithm, answer["Signature"])


def test_a_signature_of_something_else_does_not_verify(aws: Aws, keys: dict[str, str]) -> None:
    arn = keys["ECC_NIST_P256"]
    answer = aws.kms().sign(KeyId=arn, Message=b"another", SigningAlgorithm="ECDSA_SHA_256")
    with pytest.raises(SignatureError):
        check(aws, arn, SigningAlgorithm.ES256, answer["Signature"])


@pytest.mark.parametrize("spec", SPECS)
def test_get_public_key_and_describe_key_say_what_the_key_is(aws: Aws, keys: dict[str, str], spec: str) -> None:
    public = aws.kms().get_public_key(KeyId=keys[spec])
    metadata = aws.kms().describe_key(KeyId=keys[spec])["KeyMetadata"]
    assert public["KeyId"] == metadata["Arn"] == keys[spec]
    assert public["KeySpec"] == metadata["KeySpec"] == spec
    assert public["KeyUsage"] == metadata["KeyUsage"] == "SIGN_VERIFY"
    expected = {algorithm.facts.kms for algorithm in algorithms_of(spec)}
    assert expected <= set(public["SigningAlgorithms"]) == set(metadata["SigningAlgorithms"])


@pytest.mark.parametrize(
    ("spec", "parameters", "refusal"),
    [
        ("ECC_NIST_P256", {"Message": bytes(4097)}, ("ValidationException", "less than or equal to 4096")),
        ("ECC_NIST_P256", {"Message": bytes(31), "MessageType": "DIGEST"}, ("ValidationException", "invalid length")),
        ("ECC_NIST_P256", {"Message": bytes(48), "MessageType": "DIGEST"}, ("ValidationException", "invalid length")),
        ("ECC_NIST_P256", {"MessageType": "HASH"}, ("ValidationException", "enum value set")),
        ("ECC_NIST_P256", {"MessageType": "EXTERNAL_MU"}, ("ValidationException", "incompatible with key spec")),
        ("ECC_NIST_P256", {"SigningAlgorithm": "ES256"}, ("ValidationException", "enum value set")),
        ("ECC_NIST_P256", {"SigningAlgorithm": "ECDSA_SHA_384"}, ("InvalidKeyUsageException", "incompatible")),
        ("ECC_NIST_P384", {}, ("InvalidKeyUsageException", "incompatible with key spec ECC_NIST_P384")),
        ("RSA_2048", {}, ("InvalidKeyUsageException", "incompatible with key spec RSA_2048")),
        (
            "ECC_NIST_EDWARDS25519",
            {"SigningAlgorithm": "ED25519_SHA_512", "Message": bytes(64), "MessageType": "DIGEST"},
            ("ValidationException", "DIGEST is incompatible with algorithm ED25519_SHA_512"),
        ),
        (
            "ECC_NIST_EDWARDS25519",
            {"SigningAlgorithm": "ED25519_PH_SHA_512", "Message": bytes(64), "MessageType": "DIGEST"},
            ("UnsupportedOperationException", "ED25519_PH_SHA_512"),
        ),
    ],
)
def test_sign_refuses_what_does_not_fit_the_key(
    aws: Aws, keys: dict[str, str], spec: str, parameters: dict[str, object], refusal: tuple[str, str]
) -> None:
    request: dict[str, object] = {"Message": MESSAGE, "SigningAlgorithm": "ECDSA_SHA_256", **parameters}
    with pytest.raises(ClientError) as caught:
        aws.kms().sign(KeyId=keys[spec], **request)
    code, message = refusal
    assert code_of(caught.value) == code
    assert message in message_of(caught.value)


def test_an_ed25519_message_of_4096_bytes_is_signed_and_one_byte_more_is_not(aws: Aws, keys: dict[str, str]) -> None:
    arn = keys["ECC_NIST_EDWARDS25519"]
    aws.kms().sign(KeyId=arn, Message=bytes(4096), SigningAlgorithm="ED25519_SHA_512")
    with pytest.raises(ClientError, match="ValidationException"):
        aws.kms().sign(KeyId=arn, Message=bytes(4097), SigningAlgorithm="ED25519_SHA_512")


def test_verify_accepts_a_signature_and_refuses_another(aws: Aws, keys: dict[str, str]) -> None:
    arn = keys["RSA_2048"]
    signature = aws.kms().sign(KeyId=arn, Message=MESSAGE, SigningAlgorithm="RSASSA_PSS_SHA_256")["Signature"]
    good = aws.kms().verify(KeyId=arn, Message=MESSAGE, Signature=signature, SigningAlgorithm="RSASSA_PSS_SHA_256")
    assert good["SignatureValid"] is True
    with pytest.raises(ClientError, match="KMSInvalidSignatureException"):
        aws.kms().verify(KeyId=arn, Message=b"x", Signature=signature, SigningAlgorithm="RSASSA_PSS_SHA_256")


def test_a_key_for_something_else_does_not_sign(aws: Aws) -> None:
    symmetric = aws.new_key("SYMMETRIC_DEFAULT", KeyUsage="ENCRYPT_DECRYPT")
    encrypting = aws.new_key("RSA_2048", KeyUsage="ENCRYPT_DECRYPT")
    for arn in (symmetric, encrypting):
        with pytest.raises(ClientError, match="ENCRYPT_DECRYPT which is not valid for Sign"):
            aws.kms().sign(KeyId=arn, Message=MESSAGE, SigningAlgorithm="RSASSA_PSS_SHA_256")
    with pytest.raises(ClientError, match="UnsupportedOperationException"):
        aws.kms().get_public_key(KeyId=symmetric)
    assert aws.kms().get_public_key(KeyId=encrypting)["KeyUsage"] == "ENCRYPT_DECRYPT"


def test_a_disabled_key_does_not_sign_until_it_is_enabled(aws: Aws) -> None:
    arn = aws.new_key()
    aws.kms().disable_key(KeyId=arn)
    for call in (aws.kms().get_public_key, lambda **key: sign(aws, **key)):
        with pytest.raises(ClientError, match=r"DisabledException.*is disabled"):
            call(KeyId=arn)
    aws.kms().enable_key(KeyId=arn)
    assert sign(aws, KeyId=arn) == arn


def test_a_key_pending_deletion_does_not_sign_and_comes_back_disabled(aws: Aws) -> None:
    arn = aws.new_key()
    answer = aws.kms().schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
    assert (answer["KeyId"], answer["KeyState"]) == (arn, "PendingDeletion")
    with pytest.raises(ClientError, match=r"KMSInvalidStateException.*is pending deletion"):
        sign(aws, KeyId=arn)
    with pytest.raises(ClientError, match="KMSInvalidStateException"):
        aws.kms().enable_key(KeyId=arn)
    assert aws.kms().cancel_key_deletion(KeyId=arn)["KeyId"] == arn
    assert aws.kms().describe_key(KeyId=arn)["KeyMetadata"]["KeyState"] == "Disabled"


def test_a_key_whose_material_was_not_imported_does_not_sign(aws: Aws) -> None:
    arn = aws.new_key(Origin="EXTERNAL")
    assert aws.kms().describe_key(KeyId=arn)["KeyMetadata"]["KeyState"] == "PendingImport"
    with pytest.raises(ClientError, match=r"KMSInvalidStateException.*is pending import"):
        sign(aws, KeyId=arn)


def test_a_dry_run_says_that_it_would_have_signed_and_does_not_sign(aws: Aws) -> None:
    arn = aws.new_key()
    with pytest.raises(ClientError, match="would have succeeded") as caught:
        sign(aws, KeyId=arn, DryRun=True)
    assert code_of(caught.value) == "DryRunOperationException"
    assert "Signature" not in caught.value.response


def test_a_dry_run_of_what_would_be_refused_says_so(aws: Aws) -> None:
    arn = aws.new_key()
    with pytest.raises(ClientError, match="InvalidKeyUsageException"):
        sign(aws, KeyId=arn, DryRun=True, SigningAlgorithm="ECDSA_SHA_512")
    aws.kms().disable_key(KeyId=arn)
    with pytest.raises(ClientError, match="DisabledException"):
        sign(aws, KeyId=arn, DryRun=True)


@pytest.mark.parametrize("form", ["key ARN", "key id", "alias name", "alias ARN"])
def test_a_key_is_found_by_every_kind_of_name_and_answers_with_its_key_arn(aws: Aws, form: str) -> None:
    arn = aws.new_key()
    alias = f"alias/{form.replace(' ', '-')}"
    aws.kms().create_alias(AliasName=alias, TargetKeyId=arn)
    prefix, _, key_id = arn.rpartition("key/")
    name = {"key ARN": arn, "key id": key_id, "alias name": alias, "alias ARN": prefix + alias}[form]
    assert sign(aws, KeyId=name) == arn
    assert aws.kms().get_public_key(KeyId=name)["KeyId"] == arn


def test_an_alias_that_moves_signs_with_the_other_key_at_once(aws: Aws) -> None:
    first, second = aws.new_key(), aws.new_key()
    aws.kms().create_alias(AliasName="alias/moving", TargetKeyId=first)
    assert sign(aws, KeyId="alias/moving") == first
    aws.kms().update_alias(AliasName="alias/moving", TargetKeyId=second)
    assert sign(aws, KeyId="alias/moving") == second
    aws.kms().delete_alias(AliasName="alias/moving")
    with pytest.raises(ClientError, match=r"NotFoundException.*is not found"):
        sign(aws, KeyId="alias/moving")


def test_names_of_no_key_are_refused_as_kms_does(aws: Aws) -> None:
    arn = aws.new_key()
    absent = arn[:-12] + "0" * 12
    table = {
        absent: ("NotFoundException", "does not exist"),
        arn.replace("eu-central-1", "us-west-2"): ("NotFoundException", "Invalid arn us-west-2"),
        arn.replace("111122223333", OTHER_ACCOUNT): ("AccessDeniedException", "does not exist in this Region"),
        arn.replace("arn:aws:", "arn:aws-cn:"): ("InvalidArnException", "Invalid arn"),
        arn.replace(":kms:", ":s3:"): ("InvalidArnException", "Invalid arn"),
        "arn:nonsense": ("InvalidArnException", "Invalid arn"),
        "nonsense": ("NotFoundException", "Invalid keyId"),
        "alias/absent": ("NotFoundException", "is not found"),
    }
    for name, (code, message) in table.items():
        with pytest.raises(ClientError) as caught:
            sign(aws, KeyId=name)
        assert (code_of(caught.value), message in message_of(caught.value)) == (code, True), name


def test_a_replica_in_another_region_signs_with_the_same_material(aws: Aws) -> None:
    arn = aws.new_key(MultiRegion=True)
    answer = aws.kms().replicate_key(KeyId=arn, ReplicaRegion="us-west-2")
    replica = answer["ReplicaKeyMetadata"]["Arn"]
    assert replica == arn.replace("eu-central-1", "us-west-2")
    other = aws.kms(region="us-west-2")
    signed = other.sign(KeyId=replica, Message=MESSAGE, SigningAlgorithm="ECDSA_SHA_256")
    assert signed["KeyId"] == replica
    check(aws, arn, SigningAlgorithm.ES256, signed["Signature"])
    configuration = other.describe_key(KeyId=replica)["KeyMetadata"]["MultiRegionConfiguration"]
    assert configuration["MultiRegionKeyType"] == "REPLICA"
    assert configuration["PrimaryKey"] == {"Arn": arn, "Region": "eu-central-1"}
    assert configuration["ReplicaKeys"] == [{"Arn": replica, "Region": "us-west-2"}]


def test_a_replica_has_a_state_policy_and_aliases_of_its_own(aws: Aws) -> None:
    arn = aws.new_key(MultiRegion=True)
    aws.kms().create_alias(AliasName="alias/primary-only", TargetKeyId=arn)
    aws.kms().replicate_key(KeyId=arn, ReplicaRegion="us-west-2")
    aws.kms().disable_key(KeyId=arn)
    other = aws.kms(region="us-west-2")
    replica = arn.replace("eu-central-1", "us-west-2")
    other.sign(KeyId=replica, Message=MESSAGE, SigningAlgorithm="ECDSA_SHA_256")
    with pytest.raises(ClientError, match="NotFoundException"):
        other.get_public_key(KeyId="alias/primary-only")


def test_only_a_multi_region_primary_is_replicated_and_only_once(aws: Aws) -> None:
    with pytest.raises(ClientError, match="UnsupportedOperationException"):
        aws.kms().replicate_key(KeyId=aws.new_key(), ReplicaRegion="us-west-2")
    arn = aws.new_key(MultiRegion=True)
    aws.kms().replicate_key(KeyId=arn, ReplicaRegion="us-west-2")
    with pytest.raises(ClientError, match="AlreadyExistsException"):
        aws.kms().replicate_key(KeyId=arn, ReplicaRegion="us-west-2")


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"KeySpec": "ECC_NIST_P256"}, "ValidationException"),
        ({"KeySpec": "ECC_NIST_P256", "KeyUsage": "ENCRYPT_DECRYPT"}, "ValidationException"),
        ({"KeySpec": "NO_SUCH_SPEC", "KeyUsage": "SIGN_VERIFY"}, "ValidationException"),
        ({"KeySpec": "ML_DSA_44", "KeyUsage": "SIGN_VERIFY"}, "UnsupportedOperationException"),
        ({"Origin": "AWS_CLOUDHSM"}, "UnsupportedOperationException"),
        ({"Policy": "{"}, "MalformedPolicyDocumentException"),
        ({"Tags": [{"TagKey": "#", "TagValue": "x"}]}, "TagException"),
    ],
)
def test_create_key_refuses_what_makes_no_key(aws: Aws, parameters: dict[str, object], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        aws.kms().create_key(**parameters)
    assert code_of(caught.value) == code


def test_what_moto_does_well_is_moto_s(aws: Aws) -> None:
    arn = aws.new_key(Tags=[{"TagKey": "team", "TagValue": "media"}], Description="first")
    kms = aws.kms()
    kms.tag_resource(KeyId=arn, Tags=[{"TagKey": "stage", "TagValue": "test"}])
    kms.untag_resource(KeyId=arn, TagKeys=["team"])
    assert kms.list_resource_tags(KeyId=arn)["Tags"] == [{"TagKey": "stage", "TagValue": "test"}]
    kms.update_key_description(KeyId=arn, Description="second")
    assert kms.describe_key(KeyId=arn)["KeyMetadata"]["Description"] == "second"
    assert arn in {key["KeyArn"] for key in kms.list_keys()["Keys"]}
    assert kms.list_key_policies(KeyId=arn)["PolicyNames"] == ["default"]
    kms.create_alias(AliasName="alias/listed", TargetKeyId=arn)
    aliases = [alias["AliasName"] for alias in kms.list_aliases(KeyId=arn)["Aliases"]]
    assert aliases == ["alias/listed"]


def test_an_operation_that_is_not_emulated_says_so(aws: Aws) -> None:
    with pytest.raises(ClientError, match="does not emulate GenerateRandom"):
        aws.kms().generate_random(NumberOfBytes=8)


def sign(aws: Aws, **parameters: object) -> str:
    """Sign with ES256 unless told otherwise and return the KeyId of the answer."""
    request: dict[str, object] = {"Message": MESSAGE, "SigningAlgorithm": "ECDSA_SHA_256", **parameters}
    return str(aws.kms().sign(**request)["KeyId"])

import pytest

from byok_api.references import KeyArn, ObjectName, RecipeReference

KEY = "key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.mark.parametrize("region", ["us-east-1", "us-gov-west-1", "us-iso-east-1", "cn-north-1", "ap-southeast-5"])
def test_an_arn_tells_where_its_key_is(region: str) -> None:
    arn = KeyArn(f"arn:aws:kms:{region}:111122223333:{KEY}")
    assert (arn.partition, arn.region, arn.account, arn.is_alias) == ("aws", region, "111122223333", False)


@pytest.mark.parametrize("region", ["s3", "", "us-east", "us-east-1.example.com", "US-EAST-1", "us_east_1"])
def test_what_is_no_region_names_no_host(region: str) -> None:
    with pytest.raises(ValueError, match="is not the ARN of a KMS key or alias"):
        KeyArn(f"arn:aws:kms:{region}:111122223333:{KEY}")


def test_an_alias_is_told_from_a_key() -> None:
    assert KeyArn("arn:aws:kms:us-east-1:111122223333:alias/team/photo").is_alias


@pytest.mark.parametrize("text", ["photo", "photo@2", "media/photo", "media/photo.v2@12"])
def test_a_recipe_reference_reads_as_it_prints(text: str) -> None:
    assert str(RecipeReference.parse(text)) == text


@pytest.mark.parametrize("text", ["", "/", "a/b/c", "Photo", "photo@0", "photo@01", "photo@", "a@1\n", "x" * 400])
def test_anything_else_is_no_recipe_reference(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        RecipeReference.parse(text)


def test_an_object_name_needs_both_parts() -> None:
    assert ObjectName.parse("media/photo") == ObjectName("media", "photo")
    with pytest.raises(ValueError, match="namespace/name"):
        ObjectName.parse("photo")

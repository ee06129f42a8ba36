import pytest

import byok_client


@pytest.mark.parametrize("name", byok_client.__all__)
def test_every_public_name_is_found(name: str) -> None:
    assert getattr(byok_client, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nobody'"):
        _ = byok_client.Nobody

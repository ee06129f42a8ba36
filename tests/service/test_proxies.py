"""Who is reached through a proxy, as HTTPS_PROXY and NO_PROXY say it to other tools, and to botocore by us."""

import urllib.request
from urllib.parse import urlsplit

import pytest
from yarl import URL

from byok_service.proxies import DIRECT, Proxies, Proxy

PROXY = Proxy.parse("http://proxy.example:3128")
KMS = "https://kms.eu-central-1.amazonaws.com/"


@pytest.mark.parametrize(
    ("text", "shown", "authorization"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128", None),
        ("http://proxy.example/", "http://proxy.example:80", None),
        ("https://proxy.example", "https://proxy.example:443", None),
        ("proxy.example:3128", "http://proxy.example:3128", None),
        ("http://10.0.0.1:8080", "http://10.0.0.1:8080", None),
        ("http://[fd00::1]:8080", "http://[fd00::1]:8080", None),
        ("http://signer:s%40fe%3A@proxy.example:1", "http://proxy.example:1", "Basic c2lnbmVyOnNAZmU6"),
        ("http://signer@proxy.example:1", "http://proxy.example:1", "Basic c2lnbmVyOg=="),
    ],
)
def test_a_proxy_is_read_and_shown_without_its_password(text: str, shown: str, authorization: str | None) -> None:
    proxy = Proxy.parse(text)
    assert (str(proxy), proxy.authorization) == (shown, authorization)
    assert "s%40fe" not in repr(proxy)
    assert "c2ln" not in repr(proxy)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "socks5://u:hush@proxy.example:1080",
        "http://u:hush@",
        "http://u:hush@proxy.example:70000",
        "http://u:hush@proxy.example:0",
        "http://u:hush@proxy.example/path",
        "http://u:hush@proxy.example?x=1",
        "http://u:hush@pro xy.example",
        "http://u:hush@[fd00::1",
        "http://u:hush%0a@proxy.example",
        "http://u:hush%C3%A9@proxy.example",
        "http://u%3A:hush@proxy.example",
    ],
)
def test_what_is_no_proxy_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"http\[s\]://\[USER:PASSWORD@\]HOST") as caught:
        Proxy.parse(text)
    assert "hush" not in str(caught.value)


DIRECTLY = [
    ("kms.eu-central-1.amazonaws.com", KMS),
    (".amazonaws.com", KMS),
    ("amazonaws.com", KMS),
    ("*.amazonaws.com", KMS),
    ("AmazonAWS.com.", KMS),
    ("first.example, ,kms.eu-central-1.amazonaws.com:443", KMS),
    ("first.example kms.eu-central-1.amazonaws.com", KMS),
    ("*", KMS),
    ("10.0.0.0/8", "https://10.1.2.3/"),
    ("10.1.2.3/8", "https://10.1.2.3/"),
    ("10.1.2.3", "https://10.1.2.3/"),
    ("10.1.2.3:8443", "https://10.1.2.3:8443/"),
    ("fd00::/8", "https://[fd00::1]/"),
    ("fd00:0::1", "https://[fd00::1]/"),
    ("[fd00::1]", "https://[fd00::1]/"),
    ("[fd00::1]:8443", "https://[fd00::1]:8443/"),
    ("", "https://localhost:8443/"),
    ("", "https://127.0.0.1:8443/"),
    ("", "https://[::1]:8443/"),
    ("", "https://169.254.170.23/v1/credentials"),
    ("", "https://[fd00:ec2::23]/v1/credentials"),
    ("", "http://kms.eu-central-1.amazonaws.com/"),
]
THROUGH = [
    ("", KMS),
    ("sts.eu-central-1.amazonaws.com", KMS),
    ("eu-central-1.amazonaws.com:8443", KMS),
    ("naws.com", KMS),
    ("kms.eu-central-1.amazonaws.com.example", KMS),
    ("10.0.0.0/8", KMS),
    ("10.0.0.0/8", "https://11.1.2.3/"),
    ("10.0.0.0/8", "https://[fd00::1]/"),
    ("2.3", "https://10.1.2.3/"),
    ("10.1.2.3:8443", "https://10.1.2.3/"),
]


@pytest.mark.parametrize(("no_proxy", "url"), DIRECTLY)
def test_who_is_reached_without_the_proxy(no_proxy: str, url: str) -> None:
    assert Proxies.parse(PROXY, no_proxy).of(URL(url)) is None


@pytest.mark.parametrize(("no_proxy", "url"), THROUGH)
def test_who_is_reached_through_the_proxy(no_proxy: str, url: str) -> None:
    assert Proxies.parse(PROXY, no_proxy).of(URL(url)) is PROXY
    assert DIRECT.of(URL(url)) is None


@pytest.mark.parametrize("entry", ["https://kms.example", "10.0.*", "a b/c", "kms.example:port", "$(HOST)", "fd00:::1"])
def test_an_entry_that_no_host_can_match_is_refused_where_there_is_a_proxy(entry: str) -> None:
    with pytest.raises(ValueError, match="names, addresses, networks"):
        Proxies.parse(PROXY, f"good.example,{entry}")
    assert Proxies.parse(None, entry).of(URL(KMS)) is None


NAMES = [(no_proxy, url) for no_proxy, url in (*DIRECTLY, *THROUGH) if url.startswith("https://kms") or not no_proxy]


@pytest.mark.parametrize(("no_proxy", "url"), NAMES)
def test_botocore_is_told_the_same_in_the_words_of_urllib(
    no_proxy: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxies = Proxies.parse(Proxy.parse("u:p@proxy.example:3128"), no_proxy)
    for name, value in proxies.variables().items():
        monkeypatch.setenv(name, value)
    # As botocore.utils.get_environ_proxies asks it.
    direct = bool(urllib.request.proxy_bypass(urlsplit(url).netloc)) or url.startswith("http:")
    assert direct == (proxies.of(URL(url)) is None)
    assert urllib.request.getproxies()["https"] == "http://u:p@proxy.example:3128"


@pytest.mark.parametrize("address", ["169.254.169.254", "169.254.170.2", "169.254.170.23", "[fd00:ec2::254]"])
def test_the_sources_of_credentials_on_this_link_are_never_asked_through_any_proxy(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "internal.example")
    for name, value in Proxies.parse(None, "internal.example").variables().items():
        monkeypatch.setenv(name, value)
    assert urllib.request.proxy_bypass(address)
    assert urllib.request.proxy_bypass("kms.internal.example")
    assert not urllib.request.proxy_bypass("kms.example")


def test_the_environment_names_a_proxy_in_small_letters_first_and_others_words_in_no_proxy_count_for_nothing() -> None:
    environ = {"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:2", "NO_PROXY": "$(HOST),10.*,.svc"}
    assert str(Proxies.of_environment(environ, URL(KMS))) == "http://lower:2"
    assert Proxies.of_environment(environ, URL("https://a.svc/")) is None
    assert Proxies.of_environment({"https_proxy": "", "HTTPS_PROXY": ""}, URL(KMS)) is None


def test_a_proxy_that_is_no_use_is_refused_only_where_it_would_be_used() -> None:
    environ = {"HTTPS_PROXY": "socks5://localhost:1080", "NO_PROXY": "10.0.0.0/8"}
    assert Proxies.of_environment(environ, URL("https://10.96.0.1/")) is None
    assert Proxies.of_environment(environ, URL("https://localhost:6443/")) is None
    with pytest.raises(ValueError, match=r"HTTPS_PROXY: expected http\[s\]://"):
        Proxies.of_environment(environ, URL(KMS))

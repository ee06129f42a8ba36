"""Network policies, by what they let through: who may reach whom, on which port."""

from typing import Any

import pytest

from tests.chart.rendering import Document, Rendering, render_text, rendered

DNS = ({"ns": ["kube-system"]}, {"cidr": "169.254.20.10/32"})
DNS_PORTS = (("UDP", 53), ("TCP", 53))


def peer(found: dict[str, Any]) -> dict[str, Any]:
    """A peer in short: a pod's name label, namespaces, or a CIDR."""
    match found:
        case {"ipBlock": block}:
            return dict(block)
        case {"podSelector": {"matchLabels": labels}, **rest} if not rest:
            return (
                {"pod": labels["app.kubernetes.io/name"]} if "app.kubernetes.io/name" in labels else {"labels": labels}
            )
        case {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **rest} if not rest:
            return {"ns": [name]}
        case {"namespaceSelector": {"matchExpressions": [{"key": key, "operator": "In", "values": names}]}}:
            assert key == "kubernetes.io/metadata.name"
            return {"ns": names}
    raise AssertionError(found)


def rules(policy: Document, direction: str) -> list[tuple[tuple[dict[str, Any], ...], tuple[tuple[str, int], ...]]]:
    """Who, and on which ports; nobody named means everybody."""
    side = "from" if direction == "ingress" else "to"
    return [
        (
            tuple(peer(each) for each in rule.get(side, ())),
            tuple((port.get("protocol", "TCP"), port["port"]) for port in rule["ports"]),
        )
        for rule in policy["spec"][direction]
    ]


def policy(case: str, name: str) -> Document:
    return rendered(case).one("NetworkPolicy", name)


def test_both_services_are_closed_in_both_directions_by_default() -> None:
    for name in ("byok-operator", "byok-signer"):
        found = policy("defaults", name)["spec"]
        assert found["policyTypes"] == ["Ingress", "Egress"]
        assert found["podSelector"]["matchLabels"] == {
            "app.kubernetes.io/name": name,
            "app.kubernetes.io/instance": "byok",
        }


def test_the_signer_is_called_by_the_operator_and_the_test_and_read_by_prometheus() -> None:
    assert rules(policy("defaults", "byok-signer"), "ingress") == [
        (({"pod": "byok-operator"}, {"pod": "byok-test"}), (("TCP", 8443),)),
        (({"ns": ["monitoring"]},), (("TCP", 9090),)),
    ]


def test_consumers_are_let_in_by_their_namespaces_name_for_grpc_only() -> None:
    grpc, metrics = rules(policy("sandbox", "byok-signer"), "ingress")
    assert grpc[0][2:] == ({"ns": ["media"]}, {"ns": ["podcasts"]})
    assert grpc[1] == (("TCP", 8443),)
    assert metrics[0] == ({"ns": ["monitoring"]},)


def test_the_signer_reaches_dns_the_api_server_and_aws() -> None:
    assert rules(policy("defaults", "byok-signer"), "egress") == [
        (DNS, DNS_PORTS),
        ((), (("TCP", 443), ("TCP", 6443))),
        ((), (("TCP", 443),)),
    ]


def test_the_operator_reaches_dns_the_api_server_and_the_signer_and_nobody_calls_it() -> None:
    found = policy("defaults", "byok-operator")
    assert rules(found, "egress") == [
        (DNS, DNS_PORTS),
        ((), (("TCP", 443), ("TCP", 6443))),
        (({"pod": "byok-signer"},), (("TCP", 8443),)),
    ]
    assert rules(found, "ingress") == [(({"ns": ["monitoring"]},), (("TCP", 9090),))]


def test_a_closed_network_is_written_out_in_values() -> None:
    signer, operator = policy("network", "byok-signer"), policy("network", "byok-operator")
    dns = (({"ns": ["openshift-dns"]}, {"cidr": "10.0.0.10/32"}), (("UDP", 5353), ("TCP", 5353)))
    api_server = (({"cidr": "10.0.0.0/28"},), (("TCP", 8443),))
    assert rules(signer, "egress") == [
        dns,
        api_server,
        (({"cidr": "10.2.0.0/16"},), (("TCP", 443),)),
        (({"cidr": "169.254.169.254/32"},), (("TCP", 80),)),
    ]
    assert rules(signer, "ingress")[1:] == [
        (({"ns": ["observability"]},), (("TCP", 9090),)),
        (({"cidr": "10.3.0.0/16"},), (("TCP", 8443),)),
    ]
    assert rules(operator, "egress")[:2] == [dns, api_server]
    assert rules(operator, "egress")[3:] == [(({"labels": {"app": "audit"}},), (("TCP", 443),))]


def test_the_pod_identity_agent_and_a_proxy_are_reached_where_they_are_used() -> None:
    assert rules(policy("aws", "byok-signer"), "egress")[3:] == [
        (({"cidr": "169.254.170.23/32"}, {"cidr": "fd00:ec2::23/128"}), (("TCP", 80),)),
        (({"cidr": "10.1.0.0/24"},), (("TCP", 3128),)),
    ]


@pytest.mark.parametrize(
    ("more", "direct"),
    [
        ({}, []),
        ({"proxy": {"noProxy": [".example"]}}, [((), (("TCP", 443),))]),
        ({"networkPolicy": {"kms": {"cidrs": ["10.2.0.0/16"]}}}, [(({"cidr": "10.2.0.0/16"},), (("TCP", 443),))]),
    ],
)
def test_with_a_proxy_kms_is_reached_directly_only_where_values_say_so(
    more: dict[str, Any], direct: list[object]
) -> None:
    proxy = {"https": "http://proxy.example:3128", "cidrs": ["10.1.0.0/24"]} | more.get("proxy", {})
    values = {"apiServer": {"cidrs": ["10.0.0.0/28"], "ports": [6443]}, **more, "proxy": proxy}
    found = rules(Rendering.of(render_text(values)).one("NetworkPolicy", "byok-signer"), "egress")
    assert found[0] == (DNS, DNS_PORTS)
    assert found[1] == (({"cidr": "10.0.0.0/28"},), (("TCP", 6443),))
    assert found[2:-1] == direct
    assert found[-1] == (({"cidr": "10.1.0.0/24"},), (("TCP", 3128),))


@pytest.mark.parametrize(("url", "port"), [("http://proxy.example", 80), ("https://proxy.example/", 443)])
def test_a_proxy_without_a_port_is_reached_on_its_schemes(url: str, port: int) -> None:
    found = Rendering.of(render_text({"proxy": {"https": url}})).one("NetworkPolicy", "byok-signer")
    assert rules(found, "egress")[-1] == ((), (("TCP", port),))


def test_the_sandbox_is_reached_by_the_signer() -> None:
    assert rules(policy("sandbox", "byok-signer"), "egress")[3:] == [(({"pod": "byok-sandbox"},), (("TCP", 8443),))]


def test_there_is_no_policy_where_none_is_wanted() -> None:
    assert not rendered("bare").kind("NetworkPolicy")

"""What is made of the signer's certificates, and when: decided from the Secrets' contents and the time alone."""

import base64
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from byok_operator.certificates import (
    BUNDLE,
    CA_VALIDITY,
    CERTIFICATE,
    KEY,
    PREDECESSORS_LIMIT,
    SERVING_VALIDITY,
    Demands,
    Kept,
    Observed,
    Pair,
    Publication,
    Why,
    fingerprint,
    kept_in,
    pem_of,
    plan_authority,
    plan_serving,
)
from byok_operator.issuing import issue_serving, make_authority
from tests.support.signer_certificates import BEGIN, NAMES, data_of, days, of_no_version, with_an_extension_twice

GRACE = timedelta(minutes=10)
OLD, NEW = make_authority(now=BEGIN - CA_VALIDITY * 0.8), make_authority(now=BEGIN)
OF_OLD, OF_NEW = issue_serving(OLD, NAMES, now=BEGIN), issue_serving(NEW, NAMES, now=BEGIN)
EMPTY = Kept(is_empty=True)
LEAF_AS_CA = issue_serving(NEW, NAMES, now=BEGIN)


def kept(pair: Pair, *bundle: Pair) -> Kept:
    return Kept(pair.certificate, pair.key, tuple(each.certificate for each in bundle))


def observed(serving: Kept, authority: Pair, *predecessors: Pair, **changes: Any) -> Observed:  # noqa: ANN401 - of an Observed
    bundle = tuple(each.certificate for each in predecessors)
    base = {"publication": None, "is_everywhere": False, "now": BEGIN, "demands": Demands(NAMES, GRACE)}
    return Observed(serving, authority.certificate, bundle, **(base | changes))


def published(authority: Pair, before: timedelta) -> Publication:
    return Publication(fingerprint(authority.certificate), BEGIN - before)


def rsa_pem() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(BEGIN - days(1)).not_valid_after(BEGIN + days(1))
    return pem_of([builder.sign(key, hashes.SHA256())])


def encrypted_key() -> bytes:
    return NEW.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))


GOOD = kept(OF_NEW)


@pytest.mark.parametrize(
    ("held", "after", "why"),
    [
        (EMPTY, days(0), Why.MISSING),
        (Kept(), days(0), Why.DAMAGED),
        (kept(LEAF_AS_CA), days(0), Why.DAMAGED),
        (Kept(NEW.certificate, None), days(0), Why.MISMATCHED),
        (Kept(NEW.certificate, OLD.key), days(0), Why.MISMATCHED),
        (kept(NEW), -days(2), Why.NOT_VALID),
        (kept(NEW), -days(0.9), None),
        (kept(NEW), CA_VALIDITY, Why.NOT_VALID),
        (kept(NEW), CA_VALIDITY * 0.79, None),
        (kept(NEW), days(0), None),
    ],
)
def test_a_ca_is_made_when_there_is_none_to_go_on_with(held: Kept, after: timedelta, why: Why | None) -> None:
    plan = plan_authority(held, GOOD, BEGIN + after)
    assert plan.renew is why
    assert (plan.current is None, plan.changed) == (why is not None, why is not None)


def test_a_ca_is_replaced_after_four_fifths_of_its_life() -> None:
    for share, why in ((0.79, None), (0.81, Why.AGED)):
        now = BEGIN + CA_VALIDITY * share
        assert plan_authority(kept(NEW), kept(issue_serving(NEW, NAMES, now=now), NEW), now).renew is why


@pytest.mark.parametrize(
    "serving",
    [
        EMPTY,
        Kept(),
        Kept(OF_OLD.certificate, None, (OLD.certificate,)),
        kept(issue_serving(OLD, NAMES, now=BEGIN - SERVING_VALIDITY), OLD),
        kept(issue_serving(OLD, NAMES, now=BEGIN - SERVING_VALIDITY * 0.84), OLD),
        kept(OF_NEW, OLD),
    ],
    ids=["missing", "damaged", "without key", "expired", "overdue", "untrusted"],
)
def test_a_ca_that_has_aged_issues_first_what_cannot_wait_until_another_is_known(serving: Kept) -> None:
    plan = plan_authority(kept(OLD), serving, BEGIN)
    assert (plan.renew, plan.predecessors) == (None, ())
    issued = kept(issue_serving(OLD, NAMES, now=BEGIN), OLD)
    assert plan_authority(kept(OLD), issued, BEGIN).renew is Why.AGED


@pytest.mark.parametrize(
    ("serving", "why"),
    [
        (EMPTY, Why.MISSING),
        (Kept(), Why.DAMAGED),
        (Kept(OF_NEW.certificate, None), Why.MISMATCHED),
        (Kept(OF_NEW.certificate, OF_OLD.key), Why.MISMATCHED),
        (kept(OF_OLD), Why.UNTRUSTED),
        (kept(OF_NEW), None),
    ],
)
def test_a_certificate_is_issued_at_once_where_nobody_could_connect(serving: Kept, why: Why | None) -> None:
    assert plan_serving(observed(serving, NEW)).issue is why


@pytest.mark.parametrize(
    ("share", "why"),
    [
        (0.66, None),
        (0.67, Why.AGED),
        (0.82, Why.AGED),
        (0.84, Why.OVERDUE),
        (1.0, Why.NOT_VALID),
        (-0.01, None),
        (-0.1, Why.NOT_VALID),
    ],
)
def test_a_certificate_is_renewed_after_two_thirds_of_its_life(share: float, why: Why | None) -> None:
    assert plan_serving(observed(kept(OF_NEW), NEW, now=BEGIN + SERVING_VALIDITY * share)).issue is why


def test_other_names_are_certified_at_once() -> None:
    demands = Demands((*NAMES, "byok-signer.byok-system"), GRACE)
    assert plan_serving(observed(kept(OF_NEW), NEW, demands=demands)).issue is Why.RENAMED
    reordered = Demands(NAMES[::-1], GRACE)
    assert plan_serving(observed(kept(OF_NEW), NEW, demands=reordered)).issue is None


@pytest.mark.parametrize(
    ("publication", "why"),
    [
        (None, None),
        (published(NEW, GRACE - timedelta(seconds=1)), None),
        (published(NEW, GRACE), Why.SUPERSEDED),
        (published(NEW, days(300)), Why.SUPERSEDED),
        (published(OLD, days(300)), None),
        (published(NEW, -days(1)), None),
    ],
    ids=["never", "just", "for the grace", "long ago", "the old one", "in the future"],
)
def test_a_new_ca_issues_once_it_has_been_published_for_the_grace(
    publication: Publication | None, why: Why | None
) -> None:
    assert plan_serving(observed(kept(OF_OLD, NEW, OLD), NEW, OLD, publication=publication)).issue is why


def test_nothing_else_makes_a_new_ca_issue_before_it_is_known_but_a_certificate_about_to_expire() -> None:
    renamed = observed(kept(OF_OLD, NEW, OLD), NEW, OLD, demands=Demands(("other",), GRACE))
    assert plan_serving(renamed).issue is None
    aged = observed(kept(OF_OLD, NEW, OLD), NEW, OLD, now=BEGIN + SERVING_VALIDITY * 0.7)
    assert plan_serving(aged).issue is None
    overdue = observed(kept(OF_OLD, NEW, OLD), NEW, OLD, now=BEGIN + SERVING_VALIDITY * 0.84)
    assert plan_serving(overdue).issue is Why.OVERDUE


@pytest.mark.parametrize(
    ("before", "is_everywhere", "bundle", "dated"),
    [
        (None, True, (NEW, OLD), True),
        (None, False, (NEW, OLD), False),
        (None, True, (OLD,), False),
        (published(OLD, days(300)), True, (NEW, OLD), True),
        (published(NEW, -days(1)), True, (NEW, OLD), True),
        (published(NEW, days(1)), True, (NEW, OLD), False),
    ],
    ids=["all have it", "some do not", "not even the Secret", "told of the old one", "in the future", "known already"],
)
def test_a_ca_counts_as_published_from_when_secret_and_consumers_have_it(
    before: Publication | None, *, is_everywhere: bool, bundle: tuple[Pair, ...], dated: bool
) -> None:
    serving = kept(OF_OLD, *bundle)
    plan = plan_serving(observed(serving, NEW, OLD, publication=before, is_everywhere=is_everywhere))
    assert plan.publication == (published(NEW, days(0)) if dated else before)


def test_a_ca_that_is_replaced_stays_trusted_for_a_serving_certificates_life() -> None:
    first = plan_authority(kept(OLD), kept(OF_OLD), BEGIN)
    assert (first.renew, first.predecessors) == (Why.AGED, (OLD.certificate,))
    for after in (days(0), days(89)):
        plan = plan_authority(kept(NEW, OLD), kept(OF_NEW), BEGIN + after)
        assert (plan.predecessors, plan.changed) == ((OLD.certificate,), False)
    last = plan_authority(kept(NEW, OLD), kept(OF_NEW), BEGIN + days(91))
    assert (last.renew, last.predecessors, last.changed) == (None, (), True)


def test_a_ca_is_trusted_for_as_long_as_its_certificate_is_served_but_not_beyond_its_own_end() -> None:
    late = plan_authority(kept(NEW, OLD), kept(OF_OLD), BEGIN + days(91))
    assert late.predecessors == (OLD.certificate,)
    ended = plan_authority(kept(NEW, OLD), kept(OF_OLD), OLD.certificate.not_valid_after_utc)
    assert ended.predecessors == ()


def test_a_key_that_is_taken_away_rotates_and_a_secret_that_is_emptied_distrusts() -> None:
    rotated = plan_authority(Kept(NEW.certificate, None, (OLD.certificate,)), kept(OF_NEW), BEGIN)
    assert (rotated.renew, rotated.predecessors) == (Why.MISMATCHED, (NEW.certificate, OLD.certificate))
    emptied = plan_authority(EMPTY, kept(OF_NEW), BEGIN)
    assert (emptied.renew, emptied.predecessors) == (Why.MISSING, ())
    assert plan_serving(observed(kept(OF_NEW), OLD)).issue is Why.UNTRUSTED


@pytest.mark.parametrize(
    ("held", "published_as", "found"),
    [
        (kept(NEW), kept(OF_OLD, NEW, OLD), (OLD,)),
        (Kept(None, NEW.key), kept(OF_OLD, OLD), (OLD,)),
        (kept(OLD), kept(OF_NEW, NEW, OLD), (NEW,)),
        (kept(OLD), kept(OF_NEW, NEW), (NEW,)),
        (kept(NEW), kept(OF_OLD, OLD), ()),
        (EMPTY, kept(OF_OLD, NEW, OLD), ()),
        (kept(NEW), kept(OF_NEW, NEW, OLD), ()),
        (kept(NEW), Kept(LEAF_AS_CA.certificate, None, (NEW.certificate, LEAF_AS_CA.certificate)), ()),
    ],
    ids=[
        "its bundle was damaged",
        "its certificate was damaged",
        "it was restored from before",
        "it was restored from long before",
        "it was emptied a look ago",
        "it was emptied",
        "nothing was lost that is served",
        "what is published is no CA",
    ],
)
def test_whose_certificate_is_served_stays_trusted_though_the_cas_secret_has_lost_it(
    held: Kept, published_as: Kept, found: tuple[Pair, ...]
) -> None:
    plan = plan_authority(held, published_as, BEGIN)
    assert plan.predecessors[: len(found)] == tuple(each.certificate for each in found)
    assert len(plan.predecessors) == len(found) + (plan.renew is Why.AGED)


def test_what_is_no_ca_is_never_trusted_and_of_many_that_are_only_some() -> None:
    assert plan_authority(kept(NEW, LEAF_AS_CA), EMPTY, BEGIN).predecessors == ()
    assert plan_authority(kept(LEAF_AS_CA), EMPTY, BEGIN).predecessors == ()
    many = [make_authority(now=BEGIN) for _ in range(PREDECESSORS_LIMIT)]
    held = kept(NEW, *many, OLD)
    plan = plan_authority(held, kept(OF_OLD), BEGIN)
    # That whose certificate is served is kept before all others.
    assert plan.predecessors == (OLD.certificate, *(each.certificate for each in many[:-1]))


def test_what_was_decided_once_is_not_decided_again() -> None:
    authority = plan_authority(kept(NEW, OLD), kept(OF_NEW), BEGIN)
    serving = plan_serving(observed(kept(OF_NEW, NEW, OLD), NEW, OLD, publication=published(NEW, days(1))))
    assert not authority.changed
    assert not serving.changed
    moved = plan_serving(observed(kept(OF_NEW, NEW), NEW, OLD, publication=published(NEW, days(1))))
    assert (moved.issue, moved.changed) == (None, True)


def test_a_publication_is_read_as_it_was_written() -> None:
    publication = published(NEW, days(1))
    assert Publication.parse(str(publication)) == publication
    for text in ("", "abc", "abc 2026", "abc yesterday", f"{publication} again"):
        assert Publication.parse(text) is None


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({CERTIFICATE: "%"}, "certificate"),
        ({CERTIFICATE: base64.b64encode(b"no PEM").decode()}, "certificate"),
        ({CERTIFICATE: base64.b64encode(rsa_pem()).decode()}, "certificate"),
        ({CERTIFICATE: base64.b64encode(pem_of([NEW.certificate]) + b"\n" * 70_000).decode()}, "certificate"),
        ({CERTIFICATE: 5}, "certificate"),
        ({KEY: base64.b64encode(b"no PEM").decode()}, "key"),
        ({KEY: base64.b64encode(encrypted_key()).decode()}, "key"),
        ({KEY: ""}, "key"),
        ({CERTIFICATE: base64.b64encode(of_no_version(pem_of([NEW.certificate]))).decode()}, "certificate"),
        ({BUNDLE: base64.b64encode(b"-----BEGIN CERTIFICATE-----").decode()}, "bundle"),
        ({BUNDLE: base64.b64encode(of_no_version(pem_of([NEW.certificate]))).decode()}, "bundle"),
    ],
)
def test_what_cannot_be_read_is_left_out_and_never_raises(change: dict[str, str], missing: str) -> None:
    read = kept_in({**data_of(NEW, OLD.certificate), **change})
    assert [name for name in ("certificate", "key", "bundle") if not getattr(read, name)] == [missing]
    assert not read.is_empty


def test_a_certificate_with_an_extension_twice_is_no_ca_and_for_no_names() -> None:
    (authority,), (leaf,) = (
        x509.load_pem_x509_certificates(with_an_extension_twice(pem_of([pair.certificate]))) for pair in (NEW, OF_NEW)
    )
    assert plan_authority(Kept(authority, NEW.key, (authority,)), Kept(leaf), BEGIN).predecessors == ()
    assert plan_serving(observed(Kept(leaf, OF_NEW.key), NEW)).issue is Why.UNTRUSTED


def test_what_was_written_is_read_again() -> None:
    read = kept_in(data_of(NEW, OLD.certificate))
    assert (read.certificate, read.bundle) == (NEW.certificate, (OLD.certificate,))
    assert isinstance(read.key, ec.EllipticCurvePrivateKey)
    assert read.key.private_numbers() == NEW.key.private_numbers()
    assert kept_in({}) == EMPTY
    assert "PRIVATE" not in repr(read)

# SPDX-License-Identifier: Apache-2.0
"""When authorities and certificates are made, who signs, and that no client is ever let down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from tunesmith_controller.ports import Invalid, Unavailable
from tunesmith_controller.webhook import certificates
from tunesmith_controller.webhook.certificates import Authority, Pair, Policy
from tunesmith_controller.webhook.live_certificate import LiveCertificate

START = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(timedelta(days=90), timedelta(days=30), timedelta(hours=1))
NAMES = ("tunesmith-controller.kubeflow.svc", "tunesmith-controller")
DAY = timedelta(days=1)


def trusts(bundle: bytes, pair: Pair, now: datetime, name: str = NAMES[0]) -> None:
    """Raises VerificationError where a client with the bundle would refuse the server."""
    store = Store(x509.load_pem_x509_certificates(bundle))
    verifier = PolicyBuilder().store(store).time(now).build_server_verifier(x509.DNSName(name))
    verifier.verify(pair.parsed, [])


def first(now: datetime = START) -> tuple[Authority, ...]:
    return certificates.published(certificates.next_authorities((), now, POLICY), now)


def test_the_first_authority_signs_at_once() -> None:
    authorities = certificates.next_authorities((), START, POLICY)
    by = certificates.signer(authorities, START, POLICY)
    pair = certificates.issue(by, NAMES, START, POLICY)
    for name in NAMES:
        trusts(certificates.bundle(authorities), pair, START, name)


def test_a_certificate_is_for_its_names_alone() -> None:
    [by] = authorities = first()
    pair = certificates.issue(by, NAMES, START, POLICY)
    with pytest.raises(x509.verification.VerificationError):
        trusts(certificates.bundle(authorities), pair, START, "kubernetes.default.svc")


def test_an_authority_has_a_successor_after_two_thirds_of_its_life() -> None:
    authorities = first()
    assert certificates.next_authorities(authorities, START + 59 * DAY, POLICY) == authorities
    assert len(certificates.next_authorities(authorities, START + 60 * DAY, POLICY)) == 2


def test_a_successor_signs_once_it_has_been_trusted_for_a_while() -> None:
    now = START + 60 * DAY
    old, new = certificates.next_authorities(first(), now, POLICY)
    assert certificates.signer((old, new), now + DAY, POLICY) == old  # nobody was told
    told = replace(new, published=now)
    assert certificates.signer((old, told), now + timedelta(minutes=59), POLICY) == old
    assert certificates.signer((old, told), now + timedelta(hours=1), POLICY) == told


def test_an_authority_is_trusted_until_it_expires() -> None:
    now = START + 60 * DAY
    both = certificates.next_authorities(first(), now, POLICY)
    assert certificates.next_authorities(both, START + 89 * DAY, POLICY) == both
    assert certificates.next_authorities(both, START + 90 * DAY, POLICY) == both[1:]


def test_when_all_have_expired_a_new_one_takes_over() -> None:
    [after] = certificates.next_authorities(first(), START + 400 * DAY, POLICY)
    assert certificates.signer((after,), START + 400 * DAY, POLICY) == after


@pytest.mark.parametrize(
    ("days", "names", "due"),
    [(0, NAMES, False), (19, NAMES, False), (20, NAMES, True), (0, (*NAMES, "other"), True)],
)
def test_a_certificate_is_renewed_in_time_and_for_other_names(
    days: int, names: Sequence[str], due: bool
) -> None:
    [by] = first()
    pair = certificates.issue(by, NAMES, START, POLICY)
    now = START + days * DAY
    assert certificates.must_be_renewed(pair, by, names, now, POLICY) is due


def test_a_certificate_never_outlives_its_authority() -> None:
    [by] = first()
    pair = certificates.issue(by, NAMES, START + 80 * DAY, POLICY)
    assert pair.parsed.not_valid_after_utc == by.pair.parsed.not_valid_after_utc


def test_three_rotations_let_no_client_down() -> None:
    """Hour by hour: clients with the bundle of now, of the round before and of a day ago all trust
    what is served now, and those with the bundle of now what was served a round ago."""
    now, authorities = START, first()
    pair = certificates.issue(authorities[0], NAMES, now, POLICY)
    bundles, signers = [certificates.bundle(authorities)], {authorities[0].pair}
    while len(signers) < 4:
        now += timedelta(hours=1)
        before = pair
        authorities = certificates.next_authorities(authorities, now, POLICY)
        bundles.append(certificates.bundle(authorities))
        authorities = certificates.published(authorities, now)
        by = certificates.signer(authorities, now, POLICY)
        signers.add(by.pair)
        if certificates.must_be_renewed(pair, by, NAMES, now, POLICY):
            pair = certificates.issue(by, NAMES, now, POLICY)
        if pair == before and now.hour:
            continue
        for bundle in (bundles[-1], bundles[-2], bundles[max(-24, -len(bundles))]):
            if pair != before and bundle is bundles[max(-24, -len(bundles))]:
                continue  # a new authority is trusted for an hour before it signs, not for a day
            trusts(bundle, pair, now)
        trusts(bundles[-1], before, now)
    assert now - START > 3 * 60 * DAY


def test_authorities_are_read_back_as_they_were() -> None:
    authorities = certificates.next_authorities(first(), START + 60 * DAY, POLICY)
    assert certificates.from_json(certificates.to_json(authorities)) == authorities


@pytest.mark.parametrize(
    "text", ["", "[1]", "3", '[{"certificate": "", "key": "", "published": null}]']
)
def test_what_is_no_authority_is_said(text: str) -> None:
    with pytest.raises(Invalid, match="the authorities cannot be read"):
        certificates.from_json(text)


def test_a_certificate_is_exchanged_while_it_serves() -> None:
    [by] = first()
    live = LiveCertificate()
    assert live.not_after is None
    one, two = (certificates.issue(by, NAMES, START, POLICY) for _ in range(2))
    assert live.load(one)
    assert not live.load(one)
    assert live.load(two)
    assert live.loaded == two
    with pytest.raises(Unavailable, match="do not fit"):
        live.load(Pair(one.certificate, two.key))
    assert live.loaded == two

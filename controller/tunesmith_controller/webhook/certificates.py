# SPDX-License-Identifier: Apache-2.0
"""Authorities and certificates of our own: when each is made, who signs, what is trusted. Pure.

`CertificateKeeper` keeps what is decided here in the cluster. An authority signs from when it has
been trusted everywhere for a while until its successor has; it is trusted until it expires. So
whoever trusts an older or a newer bundle trusts what is served, and no call fails in a rotation.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tunesmith_controller.ports import Invalid, Json

_RENEWED_AT: Final = 2 / 3
"""Of its life."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Lives of authorities and of the certificates they sign. settle: how long a new authority is
    trusted before it signs; longer than kubelets take to renew what pods have mounted. backdate:
    how much earlier validity begins, for clocks that are late."""

    authority_life: timedelta = timedelta(days=365)
    serving_life: timedelta = timedelta(days=60)
    settle: timedelta = timedelta(hours=1)
    backdate: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes

    @property
    def parsed(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate)


@dataclass(frozen=True, slots=True)
class Authority:
    """`published` is since when everybody was told to trust it; None before."""

    pair: Pair
    published: datetime | None = None


Change = Callable[[Sequence[Authority]], tuple[Authority, ...]]
"""What is made of the authorities that are there."""


def next_authorities(
    current: Sequence[Authority], now: datetime, policy: Policy
) -> tuple[Authority, ...]:
    """Without those that have expired; with a new one where there is none or the newest has lived
    for two thirds of its life."""
    valid = [each for each in current if each.pair.parsed.not_valid_after_utc > now]
    if not valid or is_due(valid[-1].pair, now, policy):
        valid.append(Authority(make_authority(now, policy)))
    return tuple(valid)


def signer(authorities: Sequence[Authority], now: datetime, policy: Policy) -> Authority:
    """The newest that is trusted for long enough, else the oldest."""
    for authority in reversed(authorities):
        if authority.published is not None and now - authority.published >= policy.settle:
            return authority
    return authorities[0]


def bundle(authorities: Sequence[Authority]) -> bytes:
    """What clients trust: the certificates of all, as PEM."""
    return b"".join(each.pair.certificate for each in authorities)


def is_due(pair: Pair, now: datetime, policy: Policy) -> bool:
    """Whether two thirds of its life are over."""
    made = pair.parsed.not_valid_before_utc + policy.backdate
    return now >= made + (pair.parsed.not_valid_after_utc - made) * _RENEWED_AT


def must_be_renewed(
    serving: Pair, by: Authority, names: Sequence[str], now: datetime, policy: Policy
) -> bool:
    """Whether a serving certificate is old, for other names, or another authority's."""
    parsed = serving.parsed
    if parsed.issuer != by.pair.parsed.subject or is_due(serving, now, policy):
        return True
    return set(_names_of(parsed)) != set(names)


def make_authority(now: datetime, policy: Policy) -> Pair:
    """A self-signed one; its name says when it was made, so that no two have one."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    subject = _name(f"tunesmith {now:%Y-%m-%d} {serial & 0xFFFFFFFF:08x}")
    valid = (now - policy.backdate, now + policy.authority_life)
    builder = _builder(subject, subject, key, valid=valid, serial=serial)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return _pair(builder.add_extension(_usage(signs=True), critical=True), key, key)


def issue(by: Authority, names: Sequence[str], now: datetime, policy: Policy) -> Pair:
    """A certificate for a server with these names (or addresses); it never outlives its authority.
    What is served carries no chain: clients have the authority."""
    parent, parent_key = by.pair.parsed, _key(by.pair)
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + policy.serving_life, parent.not_valid_after_utc)
    valid = (now - policy.backdate, end)
    builder = _builder(_name(names[0][:64]), parent.subject, key, valid=valid)
    alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs=False), True),
        (server, False),
        (alternatives, False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(parent_key.public_key()), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return _pair(builder, key, parent_key)


# ---- as text ------------------------------------------------------------------------------------


def to_json(authorities: Sequence[Authority]) -> str:
    return json.dumps([_authority_json(each) for each in authorities])


def from_json(text: str) -> tuple[Authority, ...]:
    """Raises Invalid."""
    try:
        return tuple(_authority(entry) for entry in json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid(f"the authorities cannot be read: {error}") from None


def published(authorities: Sequence[Authority], now: datetime) -> tuple[Authority, ...]:
    """Once everybody was told to trust them all."""
    return tuple(replace(a, published=a.published or now) for a in authorities)


def _authority_json(authority: Authority) -> Json:
    since = authority.published.isoformat() if authority.published else None
    pair = authority.pair
    return {"certificate": pair.certificate.decode(), "key": pair.key.decode(), "published": since}


def _authority(entry: Any) -> Authority:
    since = entry["published"]
    pair = Pair(entry["certificate"].encode(), entry["key"].encode())
    _ = pair.parsed, _key(pair)  # what cannot be used is found now
    return Authority(pair, datetime.fromisoformat(since) if since else None)


# ---- X.509 --------------------------------------------------------------------------------------


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    valid: tuple[datetime, datetime],
    serial: int = 0,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _pair(
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePrivateKey,
    signing: ec.EllipticCurvePrivateKey,
) -> Pair:
    certificate = builder.sign(signing, hashes.SHA256())
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _key(pair: Pair) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pair.key, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Invalid("the key of an authority is of another kind than ours")
    return key


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names_of(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [
        *found.get_values_for_type(x509.DNSName),
        *(str(address) for address in found.get_values_for_type(x509.IPAddress)),
    ]

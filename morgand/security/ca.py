"""The cluster's certificate authority: one P-256 key per cluster, short certificates for its hosts.

A host's certificate has CN = host id and O = cluster id. Other hosts connect to its address but expect the name
``HOSTID.morgan`` in it, so no host can pose as another; ``peer.morgan`` is in all of them, for etcd, which compares
one name for every member. Time is an argument everywhere.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from morgand.base.errors import InvalidInput, MorganError

AUTHORITY_LIFE = timedelta(days=20 * 365)
HOST_LIFE = timedelta(days=30)
BACKDATED = timedelta(hours=1)  # hosts' clocks differ a little: nothing is "not yet valid" for that
RENEWED_AFTER = 2 / 3  # of a certificate's life
PEER_NAME = "peer.morgan"


@dataclass(frozen=True, slots=True)
class Authority:
    """What stands under ``/ca``. Whoever has the key can make members: it never leaves the cluster's store."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertFacts:
    """What a host's certificate says. ``serial`` is hexadecimal, as under ``/revoked/``."""

    host: str
    cluster: str
    serial: str
    not_before: datetime
    not_after: datetime
    addresses: tuple[str, ...] = ()  # besides the names every host's certificate has


def make_authority(cluster_id: str, now: datetime) -> Authority:
    """A new cluster's authority, good for 20 years."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Morgan cluster", cluster_id)
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(own, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(cert.public_bytes(serialization.Encoding.PEM), _pem(key))


def make_key() -> bytes:
    """A host's private key, PEM. It is made on the host and stays there."""
    return _pem(ec.generate_private_key(ec.SECP256R1()))


def make_request(key_pem: bytes, host_id: str) -> bytes:
    """The request for a certificate (CSR, PEM) that proves possession of the key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host_id)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(_key(key_pem), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def sign(
    authority: Authority, csr_pem: bytes, *, host_id: str, cluster_id: str, addresses: Sequence[str], now: datetime,
    lifetime: timedelta = HOST_LIFE,
) -> bytes:  # fmt: skip
    """A host's certificate, PEM. Of the request only the public key is used: what the certificate says is ours.

    Raises InvalidInput for a request that is damaged, of another key type, made for another host or not signed by
    its own key.
    """
    request = _request(csr_pem, host_id)
    issuer, issuer_key = _cert(authority.cert_pem), _key(authority.key_pem)
    cert = (
        x509.CertificateBuilder()
        .subject_name(_name(host_id, cluster_id))
        .issuer_name(issuer.subject)
        .public_key(request.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(min(now + lifetime, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(_names(host_id, addresses)), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .sign(issuer_key, hashes.SHA256())
    )  # fmt: skip
    return cert.public_bytes(serialization.Encoding.PEM)


def host_name(host_id: str) -> str:
    """The name a client expects in the certificate of this host (``server_hostname``)."""
    return f"{host_id}.morgan"


def digest(cert_pem: bytes) -> str:
    """SHA-256 of the certificate in DER: 52 letters and digits (base32 without padding)."""
    der = _cert(cert_pem).public_bytes(serialization.Encoding.DER)
    return base64.b32encode(hashlib.sha256(der).digest()).decode("ascii").rstrip("=")


def only(cert_pem: bytes) -> bytes:
    """The first certificate of what somebody sent, and nothing else: ``digest`` looks at one, OpenSSL would trust all.

    Raises InvalidInput.
    """
    return _cert(cert_pem).public_bytes(serialization.Encoding.PEM)


def facts(cert: bytes) -> CertFacts:
    """What a certificate (PEM or DER) says. Raises InvalidInput when it is none of a host."""
    try:
        found = x509.load_pem_x509_certificate(cert) if cert.startswith(b"--") else x509.load_der_x509_certificate(cert)
    except ValueError as err:
        raise InvalidInput(f"The certificate cannot be read: {err}.") from err
    names = [found.subject.get_attributes_for_oid(oid) for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)]
    if not all(names):
        raise InvalidInput("The certificate names no host and no cluster.")
    host, cluster = (str(name[0].value) for name in names)
    return CertFacts(
        host, cluster, f"{found.serial_number:x}", found.not_valid_before_utc, found.not_valid_after_utc,
        _addresses(found, host),
    )  # fmt: skip


def renew_at(certificate: CertFacts) -> datetime:
    """When to ask for the next one: with a third of its life left, so that a few days without a leader do no harm."""
    return certificate.not_before + (certificate.not_after - certificate.not_before) * RENEWED_AFTER


def due(certificate: CertFacts, address: str, now: datetime) -> bool:
    """Whether it is time for another one: by age, or because the host has an address that is not in it."""
    return now >= renew_at(certificate) or address not in certificate.addresses


def revocation_list(authority: Authority, serials: Iterable[str], now: datetime) -> bytes:
    """The list of revoked certificates, PEM. It does not run out before the authority does: it is rewritten whenever
    a host is removed, and a list that ran out would lock everybody out."""
    issuer, key = _cert(authority.cert_pem), _key(authority.key_pem)
    revoked = sorted(set(serials))
    # Of two lists OpenSSL heeds the later one, in whole seconds: a longer list of the same second must win.
    issued = now - BACKDATED + min(timedelta(seconds=len(revoked)), BACKDATED)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(issued)
        .next_update(issuer.not_valid_after_utc)
        .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    for serial in revoked:
        one = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(now - BACKDATED)
        builder = builder.add_revoked_certificate(one.build())
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def revokes(listed_pem: bytes, authority_pem: bytes, serial: str) -> bool:
    """Whether this authority's list has the certificate: whoever hands it over, only the authority can have made it.

    Raises InvalidInput for what is no list of this authority.
    """
    try:
        listed = x509.load_pem_x509_crl(listed_pem)
        genuine = listed.is_signature_valid(_public(authority_pem))
    except (ValueError, TypeError, UnsupportedAlgorithm) as err:
        raise InvalidInput("The list of revoked certificates cannot be read.") from err
    if not genuine:
        raise InvalidInput("The list of revoked certificates is not this cluster's.")
    return listed.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None


def _public(authority_pem: bytes) -> ec.EllipticCurvePublicKey:
    found = _cert(authority_pem).public_key()
    if not isinstance(found, ec.EllipticCurvePublicKey):
        raise InvalidInput("The authority's key is of another type than ECDSA.")
    return found


def _request(csr_pem: bytes, host_id: str) -> x509.CertificateSigningRequest:
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        public = request.public_key()
        valid = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as err:
        raise InvalidInput("The certificate request cannot be read.") from err
    names = [str(one.value) for one in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if not valid:
        raise InvalidInput("The certificate request is not signed by the key it is for.")
    if names != [host_id]:
        raise InvalidInput(f"The certificate request is made for {', '.join(names) or 'nobody'}, not for {host_id}.")
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise InvalidInput("The certificate request has a key of another type than ECDSA P-256.")
    return request


def _names(host_id: str, addresses: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in (host_name(host_id), PEER_NAME, "localhost")]
    for address in dict.fromkeys((*addresses, "127.0.0.1")):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            names.append(x509.DNSName(address))
    return names


def _addresses(cert: x509.Certificate, host: str) -> tuple[str, ...]:
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    found = [str(one.value) for one in names if isinstance(one, x509.DNSName | x509.IPAddress)]
    return tuple(one for one in found if one not in (host_name(host), PEER_NAME, "localhost"))


def _name(common: str, cluster_id: str) -> x509.Name:
    return x509.Name([
        x509.NameAttribute(NameOID.COMMON_NAME, common), x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster_id)
    ])  # fmt: skip


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=authority, crl_sign=authority, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as err:
        raise MorganError("A private key cannot be read.") from err  # what it says of the key stays out of the log
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _cert(cert_pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(cert_pem)
    except ValueError as err:
        raise InvalidInput(f"A certificate cannot be read: {err}.") from err

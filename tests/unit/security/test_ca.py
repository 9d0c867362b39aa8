"""The certificate authority: what it signs, what it refuses, what it writes into certificates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from morgand.base.errors import InvalidInput, MorganError
from morgand.cluster import codec
from morgand.security import ca

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AUTHORITY = ca.make_authority("cluster-1", NOW)


def signed(host: str = "host-1", **more: object) -> bytes:
    request = ca.make_request(ca.make_key(), host)
    values: dict[str, object] = {"host_id": host, "cluster_id": "cluster-1", "addresses": ["10.0.0.5"], "now": NOW}
    return ca.sign(AUTHORITY, request, **{**values, **more})  # type: ignore[arg-type]


def test_certificate_says_who_and_where() -> None:
    """CN is the host, O the cluster, the names are the host's own, the shared one and its addresses."""
    cert = x509.load_pem_x509_certificate(signed(addresses=["10.0.0.5", "fd00::5", "box.lan"]))
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["host-1.morgan", "peer.morgan", "localhost", "box.lan"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.5", "fd00::5", "127.0.0.1"]
    usage = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    facts = ca.facts(signed())
    assert (facts.host, facts.cluster) == ("host-1", "cluster-1")
    assert (facts.not_before, facts.not_after) == (NOW - timedelta(hours=1), NOW + timedelta(days=30))


def test_authority_lives_twenty_years_and_signs_only_hosts() -> None:
    """Nothing below a host's certificate is believed, and no host's certificate outlives the authority."""
    cert = x509.load_pem_x509_certificate(AUTHORITY.cert_pem)
    assert cert.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    end = cert.not_valid_after_utc
    assert end - NOW == timedelta(days=20 * 365)
    assert ca.facts(signed(now=end - timedelta(days=3))).not_after == end


def test_renewal_is_due_at_two_thirds() -> None:
    """A third of the life is left for failed attempts."""
    facts = ca.CertFacts("h", "c", "1", NOW, NOW + timedelta(days=30))
    assert ca.renew_at(facts) == NOW + timedelta(days=20)


def test_request_for_another_host_is_refused() -> None:
    """A request names the host it is for, and only it gets the certificate."""
    with pytest.raises(InvalidInput, match="made for host-2, not for host-1"):
        ca.sign(
            AUTHORITY, ca.make_request(ca.make_key(), "host-2"), host_id="host-1", cluster_id="c", addresses=(), now=NOW
        )  # fmt: skip


def test_request_without_possession_of_the_key_is_refused() -> None:
    """A request whose signature was damaged does not prove the key."""
    request = x509.load_pem_x509_csr(ca.make_request(ca.make_key(), "host-1"))
    der = bytearray(request.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    try:
        damaged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    except ValueError:
        damaged = b"nonsense"
    with pytest.raises(InvalidInput):
        ca.sign(AUTHORITY, damaged, host_id="host-1", cluster_id="c", addresses=(), now=NOW)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()])
def test_other_key_types_are_refused(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
    """Only P-256, as everything else in the cluster."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "host-1")])
    algorithm = hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, algorithm)
    with pytest.raises(InvalidInput, match="another type"):
        ca.sign(
            AUTHORITY, request.public_bytes(serialization.Encoding.PEM), host_id="host-1", cluster_id="c",
            addresses=(), now=NOW,
        )  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
def test_nonsense_is_refused(content: bytes) -> None:
    """What cannot be read is an error in words, not a library's."""
    for call in (
        lambda: ca.facts(content),
        lambda: ca.digest(content),
        lambda: ca.sign(AUTHORITY, content, host_id="h", cluster_id="c", addresses=(), now=NOW),
        lambda: ca.make_request(content, "h"),
    ):
        with pytest.raises(MorganError):
            call()


def test_digest_names_one_authority() -> None:
    """52 letters and digits, the same for the same certificate and another for another."""
    assert len(ca.digest(AUTHORITY.cert_pem)) == 52
    assert ca.digest(AUTHORITY.cert_pem) == ca.digest(AUTHORITY.cert_pem)
    assert ca.digest(AUTHORITY.cert_pem) != ca.digest(ca.make_authority("cluster-1", NOW).cert_pem)


def test_revocation_list_names_serials() -> None:
    """Of two lists made in one second the longer is the later: OpenSSL heeds the later one."""
    serial = ca.facts(signed()).serial
    first, second = (
        x509.load_pem_x509_crl(ca.revocation_list(AUTHORITY, serials, NOW)) for serials in ([], [serial, serial])
    )
    assert [f"{one.serial_number:x}" for one in second] == [serial]
    assert first.last_update_utc < second.last_update_utc
    assert second.next_update_utc == x509.load_pem_x509_certificate(AUTHORITY.cert_pem).not_valid_after_utc


def test_key_is_stored_but_never_shown() -> None:
    """The authority survives the cluster store's encoding; its repr shows no key."""
    assert codec.decode(ca.Authority, codec.encode(AUTHORITY), key="/ca") == AUTHORITY
    assert "PRIVATE" not in repr(AUTHORITY)


def test_a_revoked_certificate_is_told_by_the_authoritys_own_list_only() -> None:
    """Whoever hands the list over, nobody else can have made it."""
    authority, other = ca.make_authority("home", NOW), ca.make_authority("home", NOW)
    listed = ca.revocation_list(authority, ["ab12"], NOW)
    assert ca.revokes(listed, authority.cert_pem, "ab12")
    assert not ca.revokes(listed, authority.cert_pem, "ab13")
    with pytest.raises(InvalidInput, match="not this cluster's"):
        ca.revokes(listed, other.cert_pem, "ab12")
    with pytest.raises(InvalidInput, match="cannot be read"):
        ca.revokes(b"nonsense", authority.cert_pem, "ab12")

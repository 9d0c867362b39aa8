"""A member's key material on disk, and TLS made of it: this cluster's authority is trusted and no other.

Everything lies in ``DATA_DIR/cluster``, readable by its owner alone, written whole or not at all.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from morgand.base import files
from morgand.base.errors import ConfigError
from morgand.security.ca import CertFacts, facts

CA, CERT, KEY, CRL = "ca.pem", "cert.pem", "key.pem", "crl.pem"
FILES = (KEY, CA, CERT, CRL)  # the key first: what is found later implies what comes before it
TOO_EARLY_OR_LATE = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
HOST_NAME_DIFFERS = 62  # X509_V_ERR_HOSTNAME_MISMATCH


def server_context(folder: Path, *, require_cert: bool) -> ssl.SSLContext:
    """TLS for a listener. Without ``require_cert`` a client may show none, but one it shows must be of this cluster.

    Raises ConfigError when the files are missing or damaged.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED if require_cert else ssl.CERT_OPTIONAL
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a resumed session would skip the look at the revocation list
    return _loaded(context, folder)


def client_context(folder: Path) -> ssl.SSLContext:
    """TLS towards other members. Give ``server_hostname=ca.host_name(HOST_ID)`` with every connection.

    Raises ConfigError when the files are missing or damaged.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # all that etcd 3.4 speaks; Morgan's own listeners want 1.3
    return _loaded(context, folder)


def joiner_context(ca_pem: bytes) -> ssl.SSLContext:
    """TLS towards a cluster whose authority is known, but that one is not a member of yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    return context


def blind_context() -> ssl.SSLContext:
    """TLS that believes anybody: only to fetch what is checked by other means, or is public."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def reload(context: ssl.SSLContext, folder: Path) -> None:
    """Make a context in use show the certificate and heed the revocation list that are in the folder now.

    Connections that exist go on as they are. Raises ConfigError.
    """
    _load(context, folder)


def peer_of(ssl_object: ssl.SSLObject | ssl.SSLSocket | None) -> CertFacts | None:
    """Who is on the other side of a connection; None for one without a certificate. Its authority was verified."""
    der = ssl_object.getpeercert(binary_form=True) if ssl_object is not None else None
    return facts(der) if der else None


def explain(err: OSError) -> str:
    """A failed connection between hosts in words: no full stop at the end."""
    if isinstance(err, ssl.SSLCertVerificationError):
        if err.verify_code in TOO_EARLY_OR_LATE:
            return "its certificate is not valid now: compare the clocks of both hosts"
        if err.verify_code == HOST_NAME_DIFFERS:
            return "another host answers at this address"
        return "it belongs to another cluster"
    if isinstance(err, ssl.SSLError):
        alerts = {
            "UNKNOWN_CA": "it does not know this host's cluster", "CERTIFICATE_REQUIRED": "it wants a certificate",
            "CERTIFICATE_REVOKED": "this host was removed from the cluster",
            "CERTIFICATE_EXPIRED": "this host's certificate has expired",
        }  # fmt: skip
        return next((words for alert, words in alerts.items() if alert in (err.reason or "")), "no TLS was agreed on")
    if isinstance(err, TimeoutError):
        return "it does not answer"
    if isinstance(err, ConnectionRefusedError):
        return "nothing listens there"
    return (err.strerror or str(err) or "the connection broke").rstrip(".")


def install(folder: Path, *, ca_pem: bytes, cert_pem: bytes, key_pem: bytes) -> None:
    """Write a new member's material in the order of ``FILES``; the list of revoked certificates comes after it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, content in ((KEY, key_pem), (CA, ca_pem), (CERT, cert_pem)):
        files.write_private(folder / name, content)


def read(file: Path) -> bytes:
    """Raises ConfigError."""
    try:
        return file.read_bytes()
    except OSError as err:
        raise _unusable(file.parent, err) from err


def _loaded(context: ssl.SSLContext, folder: Path) -> ssl.SSLContext:
    _load(context, folder)
    return context


def _load(context: ssl.SSLContext, folder: Path) -> None:
    """The files into the context; of several revocation lists OpenSSL heeds the latest."""
    try:
        context.load_verify_locations(cafile=folder / CA)
        context.load_cert_chain(folder / CERT, folder / KEY)
        if (folder / CRL).exists():
            context.load_verify_locations(cafile=folder / CRL)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    except OSError as err:  # ssl.SSLError is one
        raise _unusable(folder, err) from err


def _unusable(folder: Path, err: OSError) -> ConfigError:
    return ConfigError(
        f"The certificates in {folder} cannot be used: {err.strerror or err}.",
        remedy="Join the cluster again: `morganctl cluster invite` on another host, `morgand join` here.",
    )

"""What a joiner and a member say to each other."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

PROTOCOL = (1, 0)  # major: hosts must agree; minor: they may be one apart, since hosts are updated one by one
CLOCK_S = 30.0  # how far two clocks may be apart

CA_PATH, JOIN_PATH, CODE_PATH = "/join/v1/ca", "/join/v1", "/join/v1/code"
CERTIFICATE_PATH = "/peer/v1/certificate"
REVOKED_PATH = "/join/v1/revoked"

HostId = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Address = Annotated[str, Meta(pattern=r"^[0-9A-Za-z.:-]+$", max_length=253)]
Name = Annotated[str, Meta(pattern=r"^[^\x00-\x20\x7f/]+$", max_length=63)]
Pem = Annotated[str, Meta(max_length=16_384)]
Short = Annotated[str, Meta(max_length=128)]


class JoinHost(msgspec.Struct, frozen=True):
    """The newcomer. ``machine`` is the digest of its machine's identity, ``port`` the first of its four."""

    id: HostId
    machine: Short
    name: Name
    address: Address
    port: Annotated[int, Meta(ge=1, le=65_532)]
    version: Short
    protocol: tuple[int, int]


class JoinRequest(msgspec.Struct, frozen=True):
    """``clock``: the joiner's wall clock, seconds since 1970."""

    invitation: Short
    secret: Short
    csr: Pem
    host: JoinHost
    clock: float


class JoinReply(msgspec.Struct, frozen=True):
    """``peers``: addresses and ports of hosts' APIs; ``etcd``: client URLs. Certificates are PEM."""

    certificate: str
    ca: str
    crl: str
    gossip_keys: tuple[str, ...]
    cluster: str
    cluster_name: str
    peers: tuple[str, ...]
    etcd: tuple[str, ...]


class CodeOffer(msgspec.Struct, frozen=True):
    """One open invitation, nameless: ``salt`` stretches the code, ``message`` is SPAKE2's."""

    salt: str
    message: bytes


class CodeOffers(msgspec.Struct, frozen=True):
    exchange: str
    offers: list[CodeOffer]


class CodeAnswer(msgspec.Struct, frozen=True):
    message: bytes
    confirmation: bytes


class CodeAnswers(msgspec.Struct, frozen=True):
    """One answer for each offer, in their order."""

    exchange: Short
    answers: Annotated[list[CodeAnswer], Meta(max_length=16)]


class CodeReply(msgspec.Struct, frozen=True):
    """``sealed`` holds ``Grant`` for who knew the code of offer number ``offer``."""

    offer: int
    sealed: bytes


class Grant(msgspec.Struct, frozen=True):
    invitation: str
    secret: str
    ca: str


class CertificateRequest(msgspec.Struct, frozen=True):
    csr: Pem
    address: Address


class CertificateReply(msgspec.Struct, frozen=True):
    certificate: str

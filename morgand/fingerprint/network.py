"""The interface others can reach this host by. ``choose`` decides; ``interfaces`` reads the system."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from morgand.fingerprint import probe
from morgand.state.hosts import Network

VIRTUAL = re.compile(
    r"^(docker|br-|virbr|veth|vnet|vmnet|vboxnet|lxc|lxd|cni|flannel|cali|podman|tun|tap|wg|ppp|utun|ipsec|tailscale"
    r"|zt|nebula|ham|awdl|llw|anpi|gif|stf|dummy|ifb|kube|incus|vEthernet|ipvs|nordlynx|proton)"
    r"|vpn|hyper-v|virtualbox|vmware|loopback|tailscale|zerotier|wireguard",
    re.IGNORECASE,
)
WIRELESS = re.compile(r"^(wl|wifi|wi-fi|ath|ra\d)|wi-?fi|wireless", re.IGNORECASE)
OVERLAY = (ipaddress.ip_network("100.64.0.0/10"),)  # carrier-grade NAT: what overlay VPNs hand out


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    addresses: tuple[str, ...]
    up: bool = True
    wired: bool = True
    default_route: bool = False


def network() -> Network:
    return choose(interfaces())


def choose(found: Sequence[Interface]) -> Network:
    """The one with the default route first, wired before wireless, IPv4 before IPv6.

    Loopback, containers, bridges, VPNs and link-local addresses are never chosen over a real one; the loopback
    is all that is left on a host without a network.
    """
    ranked = sorted(
        (not one.default_route, not one.wired, ":" in address, one.name, position, address, one)
        for one in found
        if one.up and not VIRTUAL.search(one.name)
        for position, address in enumerate(one.addresses)
        if reachable(address)
    )
    if not ranked:
        return Network("lo", "127.0.0.1", wired=False)
    *_, address, best = ranked[0]
    return Network(best.name, address, wired=best.wired)


def reachable(address: str) -> bool:
    """Whether another host on the network could use this address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if parsed.is_loopback or parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified:
        return False
    return not any(parsed.version == net.version and parsed in net for net in OVERLAY)


def interfaces() -> list[Interface]:
    """What the system has."""
    routed = default_interface()
    stats = psutil.net_if_stats()
    return [
        Interface(
            name=name,
            addresses=tuple(
                one.address.partition("%")[0]
                for one in addresses
                if one.family in (socket.AF_INET, socket.AF_INET6)
            ),
            up=name in stats and stats[name].isup,
            wired=not _wireless(name),
            default_route=name == routed,
        )
        for name, addresses in psutil.net_if_addrs().items()
    ]  # fmt: skip


def default_interface() -> str | None:
    """The interface of the default route with the lowest metric, where the system tells."""
    with contextlib.suppress(OSError):
        return parse_routes(Path("/proc/net/route").read_text(encoding="ascii"))
    text = probe.output(["route", "-n", "get", "default"]) or ""  # macOS
    match = re.search(r"interface: (\S+)", text)
    return match.group(1) if match else None


def parse_routes(text: str) -> str | None:
    """``/proc/net/route``: destination and mask zero mean default."""
    routes = [line.split() for line in text.splitlines()[1:]]
    defaults = [(int(row[6]), row[0]) for row in routes if len(row) > 7 and row[1] == row[7] == "00000000"]
    real = [one for one in defaults if not VIRTUAL.search(one[1])]
    return min(real or defaults)[1] if defaults else None


def _wireless(name: str) -> bool:
    return bool(WIRELESS.search(name)) or Path("/sys/class/net", name, "wireless").exists()

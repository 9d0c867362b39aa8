"""Rounds that strike the host that has etcd's leader: nothing can be decided before the others have elected another."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from tests.lab.faults import Faults
from tests.lab.hosts import LabHost
from tests.lab.inside import connect
from tests.lab.scenario import Step

LED_S = 30.0  # until somebody else leads etcd


class EtcdLeader(Faults):
    def do_etcd_rounds(self, step: Step) -> None:
        count, kind = step.words
        for _ in range(int(count)):
            self._until(self._led_elsewhere, LED_S, "etcd led by a host that may be struck")
            self.round_of(replace(step, words=(kind, self._etcd_leader(), "")))

    def _led_elsewhere(self) -> bool:
        """Whether a host leads etcd that nobody chats through; if not, its leader is sent on."""
        name = self._etcd_leader()
        if self._chatter is None or name not in ("", self._chatter.host.name):
            return bool(name)
        if name:
            self._move_etcd(name, next(host for host in self._members_of_etcd() if host != name))
        return False

    def _move_etcd(self, leader: str, heir: str) -> None:
        """The host that leads etcd hands over to another one, unless that is not well yet: then ask again."""
        member = self._members_of_etcd()[heir]["header"]["member_id"]
        with contextlib.suppress(OSError):
            _ask(self.hosts[leader], "transfer-leadership", {"targetID": member})

    def _etcd_leader(self) -> str:
        """The host that says of itself that it leads; empty when none does."""
        found = self._members_of_etcd().items()
        return next((name for name, one in found if one.get("leader") == one["header"]["member_id"]), "")

    def _members_of_etcd(self) -> dict[str, Any]:
        """What etcd says of itself on each host where it answers."""
        found = {}
        for host in self.hosts.values():
            with contextlib.suppress(OSError):
                found[host.name] = _ask(host, "status", {})
        return found


def _ask(host: LabHost, what: str, body: dict[str, str]) -> Any:
    """A call to the etcd of a host, as its daemon makes it. Raises AssertionError with what etcd said."""
    folder = host.data_dir / "cluster"
    config = json.loads((folder / "etcd.json").read_text())
    place = urlsplit(config["listen-client-urls"])
    tls = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    space = host.net.namespace(host.name)
    connection = http.client.HTTPConnection(str(place.hostname), timeout=3)
    with connect(space, str(place.hostname), int(place.port or 0)) as plain:
        connection.sock = tls.wrap_socket(plain, server_hostname=f"{config['name']}.morgan")
        connection.request("POST", f"/v3/maintenance/{what}", json.dumps(body))
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
    assert answer.status == 200, f"etcd on {host.name}: {said[:300]!r}"
    return json.loads(said)

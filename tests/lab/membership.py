"""Steps that make hosts members and take them out again, for a while or for good."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.lab.hosts import LabHost
from tests.lab.scenario import Step
from tests.lab.stage import Stage

MOVE_S = 60.0  # until a host that is drained holds nothing, until one that is removed has ended
TELL_S = 60.0  # until status shows what is so


class Membership(Stage):
    def do_hosts(self, step: Step) -> None:
        for name in step.words[0].split():
            self.hosts[name] = LabHost(self.net, name, self._root)

    def do_multicast(self, _: Step) -> None:
        for name in self.hosts:
            self.net.without_multicast(name)

    def do_interface(self, step: Step) -> None:
        device, address, name = step.words
        self.net.add_interface(name, device, address)

    def do_clock(self, step: Step) -> None:
        name, seconds = step.words
        self.hosts[name] = LabHost(self.net, name, self._root, clock_ahead_s=int(seconds))
        self._strangers.add(name)

    def do_join(self, step: Step) -> None:
        for name in self.hosts:
            if name not in self._strangers:
                self._enter(name, by_code=bool(step.words[0]))

    def do_add(self, step: Step) -> None:
        name = step.words[0]
        self._enter(name)
        self._until(lambda: self._poll().hosts.get(name) == "alive", MOVE_S, f"{name} alive")

    def do_remove(self, step: Step) -> None:
        """As a person does it: drained, taken out, and its daemon ends by itself."""
        name = step.words[0]
        helper = next(host for host in self._alive() if host.name != name)
        helper.ctl("hosts", "drain", name)
        self._until(lambda: not self._roles_of(name, helper), MOVE_S, f"{name} holds nothing")
        helper.ctl("hosts", "remove", name)
        self._members.discard(name)
        self._until(self.hosts[name].ended, MOVE_S, f"the daemon of {name} has ended")

    def do_kept(self, step: Step) -> None:
        """What a host alone has stored is not given up by the way."""
        name, words = step.words
        helper = next(host for host in self._alive() if host.name != name)
        helper.ctl("hosts", "drain", name)
        said = self._objection(lambda: helper.ctl("hosts", "remove", name))
        helper.ctl("hosts", "resume", name)
        assert words in said, said or f"{name} was removed"

    def do_voters(self, step: Step) -> None:
        count = int(step.words[0])
        took = self._until(lambda: self._voting() == count, float(step.words[1]), f"{count} voters")
        self._note(f"{len(self._members)} hosts, {count} voters", took)

    def do_says(self, step: Step) -> None:
        self._until(lambda: step.words[0] in self._alive()[0].status(), TELL_S, f"status says: {step.words[0]}")

    def do_refused(self, step: Step) -> None:
        name, words = step.words
        said = self._objection(lambda: self.hosts[name].join(self._alive()[0]))
        assert words in said, said or f"{name} was let in"

    def do_addresses(self, _: Step) -> None:
        known = {one["name"]: one["address"] for one in self._alive()[0].ctl("hosts", "list")["hosts"]}
        assert known == {host.name: host.address for host in self._alive()}, known

    def do_destroy(self, step: Step) -> None:
        """It loses power, and nobody counts on it any more."""
        self.hosts[step.words[0]].power_cut()
        self._members.discard(step.words[0])

    def do_recover(self, step: Step) -> None:
        """The cluster goes on with this host alone, by hand."""
        host = self.hosts[step.words[0]]
        host.stop()
        self._say(host.recover().strip().replace("\n", "\n  "))
        host.start(ready=("db",))

    def do_revenants(self, step: Step) -> None:
        """Hosts that were given up are switched on again, all at once: they learn that, and end."""
        hosts = [self.hosts[name] for name in step.words[0].split()]
        with ThreadPoolExecutor(len(hosts)) as pool:
            list(pool.map(lambda host: self._objection(host.power_on), hosts))  # they may end before they are up
        for host in hosts:
            self._until(host.ended, MOVE_S, f"the daemon of {host.name} has ended")
            assert "morgand join" in host.log.read_text()[-3000:], host.log.read_text()[-3000:]

    # --- helpers ---------------------------------------------------------------------------------

    def _enter(self, name: str, *, by_code: bool = False) -> None:
        host = self.hosts[name]
        if self._members:
            host.join(self._alive()[0], by_code=by_code)
        host.start(ready=() if self._members else ("db",))
        self._members.add(name)

    def _roles_of(self, name: str, helper: LabHost) -> Any:
        return next(one["roles"] for one in helper.ctl("hosts", "list")["hosts"] if one["name"] == name)

    def _voting(self) -> int:
        """How many vote; 0 while one of them is not well."""
        status, body = self._alive()[0].request("GET", "/v1/status", timeout_s=5)
        assert status == 200, body
        voters = body["cluster"]["quorum"]["voters"]
        return len(voters) if all(one["healthy"] for one in voters) else 0

    def _objection(self, asked: Callable[[], object]) -> str:
        """With which words it is refused; empty when it is not."""
        try:
            asked()
        except AssertionError as err:
            return str(err)
        return ""

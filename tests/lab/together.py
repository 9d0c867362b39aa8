"""The worst host to lose: it has the database's primary, leads etcd and leads the cluster. Morgan keeps them apart;
they are brought together by a person's wishes for the database, and by etcd's own command."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from tests.lab.etcd_leader import EtcdLeader
from tests.lab.scenario import Step

TOGETHER_S = 180.0
PRIMARY = ("db", "primary")


class Together(EtcdLeader):
    def __init__(self, names: list[str], root: Path, seed: int) -> None:
        super().__init__(names, root, seed)
        self._wished: tuple[str, ...] = ()  # where the database's primary is wanted, and where it was then

    def do_worst_rounds(self, step: Step) -> None:
        count, kind = step.words
        for _ in range(int(count)):
            self._until(self._together, TOGETHER_S, "one host that has everything")
            self.round_of(replace(step, words=(kind, str(self._poll().leader), "")))

    def _wish(self, wanted: str, now: str) -> None:
        """Only the synchronous standby can take over: so there is no other host for it."""
        others = ",".join(name for name in self.hosts if name not in (wanted, now))
        self.hosts[wanted].ctl("config", "set", "roles.db.forbid", others)
        self.hosts[wanted].ctl("config", "set", "roles.db.prefer", wanted)

    def _together(self) -> bool:
        """Whether it is so; if not, the next thing is done for it."""
        found = self._poll()
        leader, primaries = found.leader, [host for one, part, host, _, _ in found.roles if (one, part) == PRIMARY]
        if leader is None or not any(found.copies):
            return False
        if primaries != [leader]:
            if primaries and self._wished != (leader, *primaries):
                self._wished = (leader, *primaries)
                self._wish(leader, primaries[0])
            return False
        if self._wished:
            self._wished = ()
            self.hosts[leader].ctl("config", "delete", "roles.db.forbid", "--yes")
        etcd = self._etcd_leader()
        if etcd and etcd != leader:
            with contextlib.suppress(AssertionError, KeyError, OSError):  # another leads by now, or the heir is behind
                self._move_etcd(etcd, leader)
        return self._etcd_leader() == self._poll().leader == leader

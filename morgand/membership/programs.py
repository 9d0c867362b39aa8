"""Programs of others that a member runs: etcd and Serf, kept running as children of the daemon."""

from __future__ import annotations

import logging
import sys

from morgand.base.clock import Clock
from morgand.cluster.etcd_process import EtcdProcess, VoterPlace
from morgand.cluster.member_file import MemberFile
from morgand.gossip import membership as gossip
from morgand.membership.context import MembershipContext
from morgand.process.supervisor import Child, ChildSpec
from morgand.security import trust
from morgand.state.roles import RoleState

log = logging.getLogger("morgand.programs")

ETCD = (sys.executable, "-m", "morgand.process.die_with_parent", "etcd")


def keeper(home: MembershipContext, clock: Clock) -> gossip.Keep:
    """How programs of others are kept running here."""

    async def keep(name: str, argv: tuple[str, ...], probe: gossip.Probe, report: gossip.Report) -> None:
        spec = ChildSpec(name, argv, {}, home.logs / f"{name}.log", start_deadline_s=60.0)
        await Child(spec, probe, clock).run(report)

    return keep


def etcd_process(me: MemberFile, home: MembershipContext, clock: Clock) -> EtcdProcess:
    """This host's etcd, whether it is a voter or not."""
    place = VoterPlace(me.host, me.address, me.port, me.cluster, home.folder)
    return EtcdProcess(place, keeper(home, clock), trust.client_context(home.folder), program=ETCD)


def teller(name: str) -> gossip.Report:
    """Logs what is wrong with a program."""

    def say(state: RoleState, detail: str | None) -> None:
        if detail:
            log.warning("program", extra={"program": name, "state": state.value, "reason": detail})

    return say

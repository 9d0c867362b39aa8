"""What is said of etcd's voters: the hosts to choose from, the members there are, the steps that can be taken. Pure.

Which step is next ``cluster/autopilot`` decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from morgand.state.hosts import Duty, Host

CLIENT_PORT, PEER_PORT = 2, 3  # after a host's first port
STEADY_S = 10.0  # a learner is well for so long before it votes
HEIR_S = 3.0  # a voter, before it leads etcd in place of a host that has enough to lose
DEAD_S = 300.0  # a voter that is away for so long is replaced
STUCK_S = 300.0  # a learner that gets no further for so long is given up
START_S = 30.0  # a voter that came without having learned first, and has not been well by then


class VoterState(StrEnum):
    WANTED = "wanted"  # to become a member of etcd
    LEARNER = "learner"  # or it votes already, but has not been well yet
    VOTER = "voter"


@dataclass(frozen=True, slots=True)
class VoterRecord:
    """What stands under ``/voters/HOST``. From LEARNER on the host runs etcd, as the member named here."""

    host: str
    peer_url: str
    client_url: str
    state: VoterState
    member: str = ""


@dataclass(frozen=True, slots=True)
class VoterCandidate:
    """A host of the cluster, and the first of its ports. ``failed``: it was to vote not long ago, and did not get on.
    ``primary``: it has the database's primary.
    """

    host: Host
    port: int
    failed: bool = False
    primary: bool = False

    @property
    def client_url(self) -> str:
        return f"https://{self.host.address}:{self.port + CLIENT_PORT}"

    @property
    def peer_url(self) -> str:
        return f"https://{self.host.address}:{self.port + PEER_PORT}"

    @property
    def leaving(self) -> bool:
        """A host that is only off for a while keeps its seat as long as nobody can replace it."""
        return self.host.draining

    @property
    def able(self) -> bool:
        """macOS and Windows have no etcd to rely on."""
        profile = self.host.profile
        return profile.os == "linux" and profile.has_engine("etcd") and not self.leaving and not self.failed

    @property
    def lasting(self) -> bool:
        """Fit to be one of five: more voters only help when all of them are on and well connected."""
        return self.host.profile.network.wired and self.host.profile.duty is Duty.ALWAYS


@dataclass(frozen=True, slots=True)
class VotingMember:
    """A member of etcd as it is. ``leads``: it is etcd's own leader.

    ``healthy``: started, answering and caught up; for ``steady_s`` without a break. Otherwise it has not been healthy,
    nor got any further, for ``ill_s``.
    """

    member: str
    host: str | None  # None: no host that is known
    peer_url: str
    learner: bool = False
    healthy: bool = True
    steady_s: float = 0.0
    ill_s: float = 0.0
    leads: bool = False


@dataclass(frozen=True, slots=True)
class VoterPatience:
    """How long things last before they are believed."""

    steady_s: float = STEADY_S
    heir_s: float = HEIR_S
    dead_s: float = DEAD_S
    stuck_s: float = STUCK_S
    start_s: float = START_S


@dataclass(frozen=True, slots=True)
class Note:
    """Write down what is the case."""

    record: VoterRecord


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete the record of a host that is no member: it ends its etcd."""

    host: str


@dataclass(frozen=True, slots=True)
class Add:
    """Make a host a learner, or a voter at once."""

    record: VoterRecord
    why: str
    votes: bool = False


@dataclass(frozen=True, slots=True)
class Promote:
    record: VoterRecord


@dataclass(frozen=True, slots=True)
class Remove:
    """``failed``: its host is not tried again for a while."""

    seat: VotingMember
    why: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Readdress:
    """A host has another address than the one etcd knows."""

    seat: VotingMember
    record: VoterRecord


@dataclass(frozen=True, slots=True)
class MoveLeader:
    """Let another voter lead etcd."""

    seat_from: VotingMember
    seat_to: VotingMember
    why: str


Step = Note | Forget | Add | Promote | Remove | Readdress | MoveLeader

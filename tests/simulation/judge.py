"""What must hold in every story, whatever happens in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from morgand.cluster import codec, keys
from morgand.cluster.codec import ElectionRecord, HostRecord
from morgand.cluster.store import Changes
from morgand.state.hosts import HostState
from morgand.state.roles import Assignment

Note = Callable[..., None]


class Judge:
    """Is told of every commit and every action, and says what is wrong by ``fail``."""

    def __init__(self, moving: Mapping[str, str], leased: Callable[[str], bool], note: Note, fail: Note) -> None:
        """``moving``: the first parts of the roles that may move. ``leased``: whether a host holds its lease now."""
        self._moving, self._leased, self._note, self._fail = moving, leased, note, fail
        self.states: dict[str, HostState] = {}
        self.leader: str | None = None
        self.holders: dict[str, dict[str, int]] = {role: {} for role in moving}  # role -> host -> epoch
        self.acted: dict[str, float] = {}  # gateway -> how often its requests were answered
        self._epoch = 0
        self._leaders: dict[int, str] = {}
        self._served: dict[tuple[str, int], str] = {}  # role, epoch -> host
        self._accepted: dict[str, int] = {}  # role -> the latest epoch in which anybody has acted
        self.actions = self.fenced = self.elections = 0

    # --- what is committed -----------------------------------------------------------------------

    def committed(self, by: str, changes: Changes) -> None:
        for change in changes.changes:
            key, value = change.key, change.item.value if change.item else b""
            if key == keys.EPOCH:
                self._counted(int(value))
            elif key == keys.ELECTION:
                self._elected(codec.decode(ElectionRecord, value, key=key))
            elif key.startswith(keys.HOSTS):
                self._judged(by, codec.decode(HostRecord, value, key=key))
            elif key.startswith(keys.ASSIGNMENTS):
                self._assigned(key, value)
        for role, holders in self.holders.items():
            if len(holders) > 1:
                self._fail(f"{role} is held by {' and '.join(holders)}")

    def _counted(self, epoch: int) -> None:
        if epoch <= self._epoch:
            self._fail(f"epoch {epoch} begins after epoch {self._epoch}")
        self._epoch = epoch

    def _elected(self, office: ElectionRecord) -> None:
        self.leader = office.host
        self._note("{} leads in epoch {}", office.host, office.epoch)
        if office.host is not None:
            self.elections += 1
            if self._leaders.setdefault(office.epoch, office.host) != office.host:
                self._fail(f"{self._leaders[office.epoch]} and {office.host} lead in epoch {office.epoch}")

    def _judged(self, by: str, record: HostRecord) -> None:
        was, self.states[record.id] = self.states.get(record.id), record.state
        if was is not record.state:
            self._note("{} is {}, says {}", record.id, record.state.value, by)
        if record.state is HostState.FENCED and was is not HostState.FENCED:
            self.fenced += 1
            if self._leased(record.id):
                self._fail(f"{record.id} is fenced while it holds its lease")

    def _assigned(self, key: str, value: bytes) -> None:
        _, _, role, part, host = key.split("/")
        if self._moving.get(role) != part:
            return
        if not value:
            self.holders[role].pop(host, None)
            self._note("{} no longer holds {}", host, role)
            return
        one = codec.decode(Assignment, value, key=key)
        self.holders[role][host] = one.epoch
        self._note("{} holds {} in epoch {}", host, role, one.epoch)

    # --- what is done ----------------------------------------------------------------------------

    def begins(self, host: str, role: str, epoch: int) -> None:
        """A host has admitted a request."""
        self._not_fenced(host, role)
        if self._served.setdefault((role, epoch), host) != host:
            self._fail(f"{self._served[role, epoch]} and {host} act for {role} in epoch {epoch}")
        latest = self._accepted.get(role, 0)
        if epoch < latest:
            self._fail(f"{host} admits epoch {epoch} of {role} after epoch {latest}")
        self._accepted[role] = max(epoch, latest)

    def acts(self, host: str, by: str, role: str, epoch: int) -> None:
        """A host has acknowledged a request of gateway ``by``."""
        self.actions += 1
        self.acted[by] = self.acted.get(by, 0) + 1
        self._not_fenced(host, role)

    def _not_fenced(self, host: str, role: str) -> None:
        if self.states.get(host) is HostState.FENCED:
            self._fail(f"{host} acts for {role} while it is fenced")

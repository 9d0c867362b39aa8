"""Who is the database's primary. Patroni decides; assignments follow it, and it is told of what we know before it does.

Everything here is decided from one reading of the store (``patroni_keys``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from morgand.cluster import codec, keys
from morgand.cluster.store import Compare, Handoff, Item, Put, Unchanged
from morgand.roles.db.patroni_keys import ENGINE, PRIMARY, STANDBY, Patroni, Sync, read
from morgand.state.roles import Assignment


class _Settings(msgspec.Struct):
    """What of ``config`` is read here."""

    failsafe_mode: bool = False


@dataclass(frozen=True, slots=True)
class MoveRequest:
    """What stands under ``/move``, or null: all that a file held is on host ``target``. ``marker`` names the move.

    ``alone``: though no synchronous standby has it, since there is no host for one, or it was waited for long enough.
    """

    target: str
    marker: str
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What a transaction writes, as long as it is still what it was decided from."""

    compares: tuple[Compare, ...]
    puts: tuple[Put, ...] = ()
    deletes: tuple[str, ...] = ()


def takeover(patroni: Patroni, db: Sequence[Assignment], dead: str, alive: frozenset[str]) -> Handoff | None:
    """How the primary passes on from a dead host, together with what has Patroni promote its successor.

    None when there is nothing to pass on, or nobody who has everything that was acknowledged: then it stays. Safe
    because the successor is a synchronous standby, which the transaction compares: an old primary that still lives
    gets no commit acknowledged without it.

    Patroni is not given an order (``failover``): each member that it does not name would sleep for 2 s, and follow the
    old primary meanwhile should that wake. Instead ``sync`` says already what it says once the successor has taken
    over: nobody else may. Should the successor not do so, ``TAKEOVER`` remembers who else could.
    """
    held = _primary(db)
    if held is None:
        return None
    given_up = patroni.before if patroni.sync.leader == dead else None  # the successor itself, before it took over
    if patroni.leader != dead and given_up is None:
        return follow(patroni, db, back=False) if held.host == dead else None
    heir = _heir(given_up.standbys if given_up else patroni.synchronous, db, lambda name: name in alive)
    if heir is None:
        return None
    why = f"had every acknowledged change when {dead} was given up"
    said = patroni.items[keys.TAKEOVER if given_up else keys.PATRONI_SYNC].value
    puts = (Put(keys.PATRONI_SYNC, codec.encode(Sync(heir))), Put(keys.TAKEOVER, said))
    failsafe = _failsafe(patroni, on=False)
    return replace(
        _pass(held, heir, db, back=held.host != dead, why=why),
        compares=(
            *patroni.unchanged(keys.PATRONI_LEADER, keys.PATRONI_SYNC, *(one.key for one in failsafe)),
            *patroni.placed,
        ),
        puts=(*puts, *failsafe),
        deletes=(keys.PATRONI_LEADER, keys.PATRONI_FAILOVER),
    )


def rearm(patroni: Patroni, *, away: bool) -> tuple[tuple[Compare, ...], Put] | None:
    """Patroni's failsafe mode on again, once a primary leads that is to stay and nobody is ``away`` who may believe
    to be it.

    A primary that does not reach the store tells the others of itself. In failsafe mode they believe it for ``ttl``
    seconds, and nobody takes over meanwhile: not when it hands over a moment later, nor when it was given up while it
    was frozen or cut off, and tells so as it wakes, from its successor. ``relieve`` and ``takeover`` end that mode
    therefore (Patroni, docs/dcs_failsafe_mode.rst).
    """
    if away or patroni.leader is None or patroni.failover is not None:
        return None
    failsafe = _failsafe(patroni, on=True)
    return (patroni.unchanged(keys.PATRONI_LEADER, keys.PATRONI_CONFIG), failsafe[0]) if failsafe else None


def follow(patroni: Patroni, db: Sequence[Assignment], *, back: bool = True) -> Handoff | None:
    """Let the assignment follow Patroni when it chose another host. None while it has chosen nobody, or nobody else.

    ``back``: the host that was primary takes the place of the one that is. Where nobody is (``morgand recover``, on the
    host of a standby) the chosen one becomes it.
    """
    why = "PostgreSQL's cluster chose it"
    place = next((one for one in db if one.host == patroni.leader and one.engine == ENGINE), None)
    if place is None or place.part == PRIMARY:
        return None
    if not any(one.part == PRIMARY for one in db):
        passed = Handoff(given=(replace(place, part=PRIMARY, why=why),), taken=(place.slot,))
    elif held := _primary(db):
        passed = _pass(held, place.host, db, back=back, why=why)
    else:
        return None  # a file serves, until it has moved
    return replace(passed, compares=patroni.unchanged(keys.PATRONI_LEADER) + patroni.placed)


def relieve(
    patroni: Patroni, db: Sequence[Assignment], leaving: frozenset[str], better: str | None = None
) -> tuple[tuple[Compare, ...], tuple[Put, ...]] | None:
    """The order to Patroni to hand over in peace, when the host it has chosen is about to go, or one of the synchronous
    is ``better``; None when it need not.

    Without its failsafe mode, see ``rearm``.
    """
    if patroni.leader is None or patroni.failover is not None:
        return None
    able = patroni.synchronous if patroni.leader in leaving else (better,) if better else ()
    heir = _heir(able, db, lambda name: name not in leaving)
    if heir is None:
        return None
    order = Put(keys.PATRONI_FAILOVER, codec.encode({"leader": patroni.leader, "member": heir}))
    failsafe = _failsafe(patroni, on=False)
    read = (keys.PATRONI_FAILOVER, keys.PATRONI_SYNC, *(one.key for one in failsafe))
    return patroni.unchanged(*read), (order, *failsafe)


def needless(patroni: Patroni, leaving: frozenset[str], lost: Mapping[str, int]) -> Withdrawal | None:
    """What takes an order back that would only have a better host lead, when a host is lost before it is carried out:
    in the midst of that it costs a second outage. ``lost``: at which revision each host was given up."""
    order, item = patroni.failover, patroni.items.get(keys.PATRONI_FAILOVER)
    if order is None or item is None or order.leader != patroni.leader or order.leader in leaving:
        return None
    if all(revision < item.mod_revision for revision in lost.values()):
        return None
    return Withdrawal(patroni.unchanged(keys.PATRONI_FAILOVER), deletes=(keys.PATRONI_FAILOVER,))


def moved(patroni: Patroni, db: Sequence[Assignment], request: Item) -> Handoff | None:
    """Pass the primary from a file to PostgreSQL, as the host of the file asks once everything is there.

    None when what it asks does not fit what is: it moved to another primary than there is now, or has no standby more.
    """
    source = next((one for one in db if one.part == PRIMARY and one.engine != ENGINE), None)
    if source is None or request.value == codec.encode(None):
        return None
    asked = codec.decode(MoveRequest, request.value, key=request.key)
    if asked.target not in successors(patroni, db) or not (asked.alone or patroni.synchronous):
        return None
    passed = _pass(source, asked.target, db, back=False, why="has everything that the file held")
    compares = (
        *patroni.unchanged(keys.PATRONI_LEADER, keys.PATRONI_SYNC), *patroni.placed,
        Unchanged(request.key, request.mod_revision),
    )  # fmt: skip
    puts = (Put(keys.MOVED, codec.encode(asked.marker)), Put(keys.MOVE, codec.encode(None)))
    return replace(passed, compares=compares, puts=puts)


def successors(patroni: Patroni, db: Sequence[Assignment]) -> tuple[str, ...]:
    """Where the data of a file can go: to the host that PostgreSQL's cluster has chosen, if it is one of ours."""
    return tuple(one.host for one in db if one.engine == ENGINE and one.part != PRIMARY and one.host == patroni.leader)


def withdrawal(patroni: Patroni, fenced: frozenset[str]) -> Withdrawal | None:
    """What gives others the chance that somebody was given who has not taken over; None while there is no such."""
    order, before = patroni.failover, patroni.before
    if patroni.leader is None and order is not None and order.leader in fenced:
        return Withdrawal(patroni.unchanged(keys.PATRONI_FAILOVER), deletes=(keys.PATRONI_FAILOVER,))
    if before is not None:
        again = Put(keys.PATRONI_SYNC, patroni.items[keys.TAKEOVER].value)
        compares = patroni.unchanged(keys.PATRONI_LEADER, keys.PATRONI_SYNC, keys.TAKEOVER)
        return Withdrawal(compares, (again,), (keys.TAKEOVER,))
    return None


def _heir(standbys: Sequence[str], db: Sequence[Assignment], able: Callable[[str], bool]) -> str | None:
    """Who of those that have everything takes over: the standby by assignment, which ranks best, before replicas."""
    parts = {one.host: one.part for one in db if one.engine == ENGINE}
    found = [name for name in standbys if name in parts and able(name)]
    return min(found, key=lambda name: parts[name] != STANDBY, default=None)


def _failsafe(patroni: Patroni, *, on: bool) -> tuple[Put, ...]:
    """What switches Patroni's failsafe mode; nothing when it is as it should be, or when there are no settings yet."""
    item = patroni.items.get(keys.PATRONI_CONFIG)
    found = read(_Settings, item) if item else None
    if item is None or found is None or found.failsafe_mode is on:
        return ()
    settings = {**msgspec.json.decode(item.value), "failsafe_mode": on}
    return (Put(keys.PATRONI_CONFIG, codec.encode(settings)),)


def _primary(db: Sequence[Assignment]) -> Assignment | None:
    return next((one for one in db if one.part == PRIMARY and one.engine == ENGINE), None)


def _pass(held: Assignment, to: str, db: Sequence[Assignment], *, back: bool, why: str) -> Handoff:
    """``back``: the old holder takes the new one's place."""
    place = next(one for one in db if one.host == to and one.engine == ENGINE)
    if place.slot == held.slot:
        return Handoff()
    given = [replace(place, part=PRIMARY, why=why)]
    if back:
        given.append(replace(held, part=place.part, why="was the primary before"))
    return Handoff(given=tuple(given), taken=(held.slot, place.slot))

"""From what was seen to what is wrong: one rule a function, each a sentence with the next step. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from morgand.assistant.rag.reconcile import difference
from morgand.security.keys import KeyRecord
from morgand.state.assistant import Document
from morgand.state.findings import Examination, Finding, FindingKind

CLOCK_S = 2.0  # certificates, keys and times of messages bear less than people think
LATE = timedelta(days=1)  # that a certificate should have been renewed
KEY_ENDS = timedelta(days=7)
LAG_BYTES = 64 << 20
NAMED = 3  # in one sentence; the rest is counted


@dataclass(frozen=True, slots=True)
class HostSeen:
    """A host, and what became of asking it. ``skew_s``: its clock less ours, known but for ``within_s``."""

    host: str
    name: str
    found: Examination | None = None
    error: str = ""
    skew_s: float = 0.0
    within_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Stored:
    """What the stores of documents say of each other. ``objects`` None: they could not be asked."""

    documents: Sequence[Document] = ()
    objects: frozenset[str] | None = None
    live: Mapping[str, int] | None = None  # completed documents and their chunks
    index: Mapping[str, int] | None = None  # documents and their points


def of_hosts(seen: Sequence[HostSeen], now: datetime) -> list[Finding]:
    """Everything that the hosts themselves have to say. ``now``: by the clock of whoever asks."""
    names = {one.host: one.name for one in seen}
    found = [_silent(one) for one in seen if one.found is None]
    for one in seen:
        if one.found is not None:
            rules = (_clock(one), _certificate(one, one.found, now), *_ports(one, one.found, names))
            found += [finding for finding in (*rules, _exposed(one, one.found)) if finding is not None]
    return [*found, *_versions(seen)]


def _silent(one: HostSeen) -> Finding:
    return Finding(
        FindingKind.HOST, f"{one.name} could not be looked through: {one.error}",
        f"See that {one.name} is on, that morgand runs there, and that no firewall keeps this host from it.", one.host,
    )  # fmt: skip


def _clock(one: HostSeen) -> Finding | None:
    if abs(one.skew_s) <= CLOCK_S + one.within_s:
        return None
    how = "ahead of" if one.skew_s > 0 else "behind"
    return Finding(
        FindingKind.CLOCK, f"The clock of {one.name} is {_duration(abs(one.skew_s))} {how} this host's.",
        "Let the wrong one be set by the network (`timedatectl set-ntp true`).", one.host,
    )  # fmt: skip


def _certificate(one: HostSeen, found: Examination, now: datetime) -> Finding | None:
    if found.certificate_renews is None or found.certificate_ends is None:
        return None
    if now < found.certificate_renews + LATE:
        return None
    ended = now >= found.certificate_ends
    until = f"ended on {found.certificate_ends:%Y-%m-%d}" if ended else f"ends on {found.certificate_ends:%Y-%m-%d}"
    again = "`morganctl cluster invite` on another host and `morgand join` there"
    return Finding(
        FindingKind.CERTIFICATE, f"The certificate of {one.name} {until} and has not been renewed.",
        f"See 'certificate not renewed' in its log: the leader must be reachable from {one.name}. "
        f"Once it has ended: {again}.", one.host,
    )  # fmt: skip


def _ports(one: HostSeen, found: Examination, names: Mapping[str, str]) -> list[Finding]:
    return [
        Finding(
            FindingKind.PORT, f"{one.name} does not reach {names.get(other, other)}.",
            f"Open six ports from cluster.port on (7471) between both, in the firewall of {names.get(other, other)}.",
            one.host,
        )
        for other in found.unreachable
    ]  # fmt: skip


def _exposed(one: HostSeen, found: Examination) -> Finding | None:
    if not found.exposed:
        return None
    return Finding(
        FindingKind.PERMISSIONS, f"On {one.name} any user can read {_named(found.exposed, 'file')}.",
        "`morganctl cluster doctor --mend` takes that right away.", one.host, mendable=True,
    )  # fmt: skip


def _versions(seen: Sequence[HostSeen]) -> list[Finding]:
    by_version: dict[str, list[str]] = {}
    for one in seen:
        if one.found is not None:
            by_version.setdefault(one.found.version, []).append(one.name)
    if len(by_version) < 2:
        return []
    told = "; ".join(f"{version} on {', '.join(names)}" for version, names in sorted(by_version.items()))
    return [
        Finding(
            FindingKind.VERSION, f"The hosts run different versions: {told}.",
            "Update the older ones, one host after the other; what is new waits until all have it.",
        )
    ]  # fmt: skip


def of_copies(lags: Mapping[str, int | None], engine: str | None, hosts: int) -> list[Finding]:
    """Of the database. ``lags``: bytes that each standby is behind, by name, where that is known."""
    found = [
        Finding(
            FindingKind.COPIES, f"The copy of the database on {name} is {lag >> 20} MB behind.",
            f"See its disk and network, and `morganctl logs db` on {name}.",
        )
        for name, lag in sorted(lags.items())
        if lag is not None and lag > LAG_BYTES
    ]  # fmt: skip
    if hosts > 1 and (engine is None or engine == "sqlite"):
        found.append(
            Finding(
                FindingKind.COPIES, "The database is a file on one host: with that host everything would be away.",
                "Install PostgreSQL on two hosts or more (`apt-get install postgresql`); the rest goes by itself. "
                "What hinders a host: `morganctl roles explain db`.",
            )
        )  # fmt: skip
    return found


def of_stores(looks: Sequence[Stored]) -> list[Finding]:
    """Documents, their originals and the index. What is on its way looks wrong for a moment: only what every look
    shows counts."""
    lacking = _always(looks, _lacking)
    orphans, missing, stale = (_always(looks, rule) for rule in (_unused, _not_indexed, _indexed_only))
    found = [_originals(sorted(lacking))] if lacking else []
    found += [_orphans(len(orphans))] if orphans else []
    return found + ([_index(len(missing), len(stale))] if missing or stale else [])


def _always(looks: Sequence[Stored], rule: Callable[[Stored], frozenset[str]]) -> frozenset[str]:
    return frozenset.intersection(*map(rule, looks)) if looks else frozenset()


def _lacking(one: Stored) -> frozenset[str]:
    objects = one.objects
    return (
        frozenset() if objects is None else frozenset(it.name for it in one.documents if it.object_key not in objects)
    )


def _unused(one: Stored) -> frozenset[str]:
    return (one.objects or frozenset()) - {it.object_key for it in one.documents}


def _not_indexed(one: Stored) -> frozenset[str]:
    return frozenset() if one.live is None or one.index is None else frozenset(difference(one.live, one.index).missing)


def _indexed_only(one: Stored) -> frozenset[str]:
    return frozenset() if one.live is None or one.index is None else frozenset(difference(one.live, one.index).stale)


def _originals(names: Sequence[str]) -> Finding:
    return Finding(
        FindingKind.ORIGINALS,
        f"The original of {_named(names, 'document')} is missing; what was read from it is there.",
        "Send those files again (`morganctl ingest`), or put the folder `objects` back from a copy of the host's disk.",
    )  # fmt: skip


def _orphans(count: int) -> Finding:
    return Finding(
        FindingKind.ORPHANS, f"{_count(count, 'stored file')} {'belongs' if count == 1 else 'belong'} to no document.",
        "They are removed by the hour; `morganctl cluster doctor --mend` does it now.", mendable=True,
    )  # fmt: skip


def _index(missing: int, stale: int) -> Finding:
    parts = [f"lacks {_count(missing, 'document')}"] if missing else []
    parts += [f"has {_count(stale, 'document')} too much"] if stale else []
    return Finding(
        FindingKind.INDEX, f"The index {' and '.join(parts)}.",
        "It is compared every ten minutes; `morganctl cluster doctor --mend` does it now.", mendable=True,
    )  # fmt: skip


def of_keys(keys: Iterable[KeyRecord], now: datetime) -> list[Finding]:
    """API keys that end within a week, or have ended."""
    return [
        Finding(
            FindingKind.KEY,
            f"The API key of {one.owner} {'ended' if one.expires <= now else 'ends'} on {one.expires:%Y-%m-%d}.",
            f"`morganctl keys create --owner NAME` makes another, `morganctl keys revoke {one.id}` removes this one.",
        )
        for one in keys
        if one.expires is not None and one.expires - now < KEY_ENDS
    ]  # fmt: skip


def of_status(warnings: Sequence[str]) -> list[Finding]:
    """The warnings of ``status``, which say themselves what to do."""
    return [Finding(FindingKind.STATUS, one, "") for one in warnings]


def _named(names: Sequence[str], noun: str) -> str:
    told = ", ".join(repr(one) for one in names[:NAMED])
    return f"{_count(len(names), noun)} ({told}{', ...' if len(names) > NAMED else ''})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

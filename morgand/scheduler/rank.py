"""Which host is better for a role, and by how much it must be better to move what already runs.

A standing is ``(classes, measure, tie-breaks)``, compared in that order, higher is better. Something that runs
moves for a better class, or for a measure better by ``MARGIN``; tie-breaks only decide between equals.
"""

from __future__ import annotations

from morgand.state.hosts import Duty, Host
from morgand.state.roles import Rank, RolePreference, RoleSpec

MARGIN = 1.25  # a running role moves only to a host with at least 25 % more of what counts

Standing = tuple[tuple[int, ...], float, tuple[float, ...]]


def standing(host: Host, spec: RoleSpec, preference: RolePreference, *, copy: bool = False) -> Standing:
    """How good ``host`` is for the role, whatever runs where. A ``copy`` is not what only one may hold: a host that was
    given up a moment ago is as good for it as before."""
    classes = [int(copy or not (spec.exclusive and host.on_probation)), preferred(host, preference)]
    measures: list[float] = []
    for rank in spec.rank:
        if rank is Rank.ALWAYS_FIRST:
            classes.append(int(host.profile.duty is Duty.ALWAYS))
        elif rank is Rank.NO_GPU_FIRST:
            classes.append(int(not host.profile.gpus))
        elif rank is Rank.VRAM:
            classes.append(int(host.profile.vram_mb > 0))
            measures.append(float(host.profile.vram_mb or host.profile.ram_mb))
        elif rank is Rank.MODERATE_VRAM:
            enough = host.profile.vram_mb >= max(1, spec.preferred_vram_mb)
            classes.append(int(enough))
            measures.append(1e6 / host.profile.vram_mb if enough else float(host.profile.ram_mb))
        elif rank is Rank.RAM:
            measures.append(float(host.profile.ram_mb))
        else:
            measures.append(float(host.profile.disk.free_mb))
    return tuple(classes), measures[0] if measures else 0.0, tuple(measures[1:])


def preferred(host: Host, preference: RolePreference) -> int:
    """Position in the person's list, counted from its end; 0 when the host is not in it."""
    if not preference.prefer:
        return 0
    places = [len(preference.prefer) - index for index, word in enumerate(preference.prefer) if names(word, host)]
    return max(places, default=0)


def names(word: str, host: Host) -> bool:
    """Whether a preference's word means this host: its name, its id or one of its labels."""
    return word in (host.name, host.id) or word in host.labels


def beats(challenger: Standing, incumbent: Standing) -> bool:
    """Whether the challenger is so much better that what runs should move."""
    if challenger[0] != incumbent[0]:
        return challenger[0] > incumbent[0]
    return challenger[1] > incumbent[1] and challenger[1] >= incumbent[1] * MARGIN


def merit(host: Host, spec: RoleSpec) -> str:
    """What counted for this host, in words: ``24.0 GB VRAM``."""
    first = next((rank for rank in spec.rank if rank not in (Rank.ALWAYS_FIRST, Rank.NO_GPU_FIRST)), None)
    profile = host.profile
    if first in (Rank.VRAM, Rank.MODERATE_VRAM) and profile.vram_mb:
        return f"{gigabytes(profile.vram_mb)} VRAM"
    if first is Rank.DISK:
        return f"{gigabytes(profile.disk.free_mb)} of free disk"
    return f"{gigabytes(profile.ram_mb)} RAM"


def gigabytes(size_mb: int) -> str:
    """``512 MB``, ``7.8 GB``."""
    return f"{size_mb} MB" if size_mb < 1024 else f"{size_mb / 1024:.1f} GB"

"""What a port of the switch drops, as a classic BPF program for ``tc``. Pure: tables in, numbers out.

One program per host, on the way to it, says whom it does not hear and how much of it gets lost. The switch drops, so
the sender learns nothing: no error, no reset, as with a real cable.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

LD_WORD, LD_HALF, LD_BYTE, JUMP_EQ, JUMP_GE, RETURN = 0x20, 0x28, 0x30, 0x15, 0x35, 0x06
RANDOM = 0xFFFFF038  # SKF_AD_OFF + SKF_AD_RANDOM: 32 random bits
DROP, PASS = 2, 0xFFFFFFFF  # TC_ACT_SHOT, TC_ACT_UNSPEC
GROUPS = (0x0100, 0x3333)  # how addresses of IPv4 and IPv6 multicast begin
BEATS = 7471  # the UDP port of heartbeats: a host's first one, unless cluster.port says otherwise
IPV4, UDP = 0x0800, 17
Code = tuple[int, int, int, int]


def mac(number: int) -> str:
    """The hardware address of host ``number`` (1 to 254)."""
    return f"02:77:00:00:00:{number:02x}"


def program(losses: Mapping[int, float], *, multicast: bool, beatless: Collection[int] = ()) -> str:
    """Bytecode for ``tc``: host number -> share of its frames that is lost (0 to 1); multicast passes or not; of which
    hosts the heartbeats are lost."""
    codes: list[Code] = []
    for number, share in sorted(losses.items()):
        codes += _from(number, share)
    for number in sorted(beatless):
        codes += _beats_from(number)
    if not multicast:
        first, second = GROUPS
        codes += [(LD_HALF, 0, 0, 0), (JUMP_EQ, 1, 0, first), (JUMP_EQ, 0, 1, second), (RETURN, 0, 0, DROP)]
    codes.append((RETURN, 0, 0, PASS))
    return ",".join([str(len(codes)), *(" ".join(str(part) for part in code) for code in codes)])


def _from(number: int, share: float) -> list[Code]:
    """Drop this share of the frames whose source address ends in ``number``."""
    if not 0 <= share <= 1:
        raise ValueError(f"A share of loss is between 0 and 1: {share}.")
    if share == 1:
        chance: list[Code] = []
    else:
        chance = [(LD_WORD, 0, 0, RANDOM), (JUMP_GE, 1, 0, int(share * 2**32))]
    drop = [*chance, (RETURN, 0, 0, DROP)]
    return [(LD_WORD, 0, 0, 8), (JUMP_EQ, 0, len(drop), number), *drop]


def _beats_from(number: int) -> list[Code]:
    """Drop what comes from this host by UDP over IPv4, without options, to the port of heartbeats."""
    tests = [(LD_WORD, 8, number), (LD_HALF, 12, IPV4), (LD_BYTE, 23, UDP), (LD_HALF, 36, BEATS)]
    codes: list[Code] = []
    for index, (load, offset, value) in enumerate(tests):
        codes += [(load, 0, 0, offset), (JUMP_EQ, 0, 2 * (len(tests) - index) - 1, value)]
    return [*codes, (RETURN, 0, 0, DROP)]

"""Steps around those who write: through one host, or through every host at once, each with a record of its own."""

from __future__ import annotations

from tests.lab.client import Chatter
from tests.lab.scenario import Step
from tests.lab.stage import Stage
from tests.lab.timeline import Timeline, longest_gap
from tests.lab.writable import Servers, rivals, together

PATIENCE_S = 300.0  # a turn is repeated for so long: what was never acknowledged proves nothing
LEASE_OVER_S = 2.0  # after that a host that is cut off has noticed


class Writing(Stage):
    def do_chat(self, step: Step) -> None:
        self._chatter = Chatter(self.hosts[step.words[0]], answers=bool(step.words[1]))
        self._chatter.start()
        self._watch(step.words[0])

    def do_write(self, _: Step) -> None:
        """Through every member at once; and every server is asked whether it is a primary."""
        self._writers = [Chatter(host, answers=False, give_up_s=PATIENCE_S) for host in self._alive()]
        for one in self._writers:
            one.start()
        self._servers = Servers(self._alive())
        self._servers.start()
        self._watch(self._writers[0].host.name)

    def do_turns(self, step: Step) -> None:
        assert self._chatter is not None
        said = self._chatter.stop()
        failed = [one for one in said if one.took_s is None]
        slowest = max((one.took_s for one in said if one.took_s is not None), default=0.0)
        self._note("slowest turn", slowest)
        self._note("longest time without a turn", longest_gap(self._chatter.acknowledgements()))
        self._say(f"{len(said)} turns")
        assert not failed, f"{len(failed)} turns were never acknowledged"
        assert slowest <= float(step.words[0]), f"a turn took {slowest:.1f} s"

    def do_lost(self, _: Step) -> None:
        """What was acknowledged is there, once and in its order, as the host tells it through which it was said."""
        clients = [*self._writers, *([self._chatter] if self._chatter else [])]
        for one in clients:
            one.ask_to_stop()
        records = {one.host.name: (one.stop(), one.compare())[1] for one in clients}
        for name, record in records.items():
            self._say(f"through {name}: {record}")
        assert all(record.good for record in records.values()), {name: str(one) for name, one in records.items()}

    def do_isolated(self, _: Step) -> None:
        """No host acknowledged anything that it was told after it was cut off and had to know it."""
        told = []
        for name, since, until in self._cut:
            writer = next(one for one in self._writers if one.host.name == name)
            told += [
                one for one in list(writer.said) if one.acknowledged and since + LEASE_OVER_S < one.acknowledged < until
            ]
        self._say(f"{len(self._cut)} times cut off; acknowledged meanwhile: {len(told)}")
        assert not told, told

    def do_primaries(self, _: Step) -> None:
        assert self._servers is not None
        samples = self._servers.stop()
        assert self._servers.whole, "the servers were not asked until the end"
        both = together(samples)
        self._say(
            f"primaries asked {len(samples)} times; two out of recovery at once: {len(both)} times, at most "
            f"{max(both, default=0.0):.1f} s"
        )
        assert any(one.acknowledged for one in samples), "no server ever acknowledged anything"
        found = rivals(samples)
        assert not found, found

    def do_limit(self, step: Step) -> None:
        """Whatever was measured under a name that ends so took no longer."""
        what, limit_s = step.words
        for name, times in self.times.items():
            if name.endswith(what):
                assert max(times) <= float(limit_s), f"{name}: {max(times):.1f} s"

    def _watch(self, first: str) -> None:
        self._timeline = Timeline(self.hosts[first])
        self._others = [Timeline(host) for host in self._alive() if host.name != first]
        for one in (self._timeline, *self._others):
            one.start()
        self._until(lambda: all(one.looks for one in self._watchers()), 60.0, "status of every host")

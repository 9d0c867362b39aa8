"""Steps that let hosts run different versions of the program."""

from __future__ import annotations

import compileall
import subprocess
from pathlib import Path

from tests.fakes.releases import NEXT, next_release, release_of
from tests.lab.scenario import Step
from tests.lab.stage import Stage


class Upgrade(Stage):
    def do_release(self, step: Step) -> None:
        """Before they start: the version of a revision of the repository."""
        folder = self._release("earlier")
        try:
            release_of(step.words[0], folder)
        except (OSError, subprocess.CalledProcessError) as err:
            raise AssertionError(f"no revision {step.words[0]} here: this needs the repository's history") from err
        self._everywhere(folder)

    def do_upgrade(self, _: Step) -> None:
        """One after the other, as a person does it: the new program, and a restart."""
        folder = self._release("next")
        next_release(folder)
        compileall.compile_dir(folder, quiet=1)
        for host in self.hosts.values():
            before = host.release()
            self._say(f"upgrade {host.name} from {before} to {NEXT}")
            assert before != NEXT
            host.use_release(folder)
            host.restart()
            self._until(self._settled, 120.0, f"everything ready after the upgrade of {host.name}")
            assert host.release() == NEXT

    def do_contracted(self, step: Step) -> None:
        """What only the older version needed is gone from the database, and was there until no host ran that."""

        def told() -> list[str]:
            return [host.name for host in self.hosts.values() if "schema contracted" in host.log.read_text()]

        self._note("schema contracted", self._until(lambda: bool(told()), float(step.words[0]), "schema contracted"))
        assert len(told()) == 1, told()

    def _release(self, name: str) -> Path:
        folder = self._root / name
        folder.mkdir(mode=0o755)
        return folder

    def _everywhere(self, folder: Path) -> None:
        compileall.compile_dir(folder, quiet=1)
        for host in self.hosts.values():
            host.use_release(folder)

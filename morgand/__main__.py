"""Entry point of the daemon: ``morgand run|start|stop|join|recover|check``.

Exit codes: 0 success, 1 error, 64 usage, 78 faulty configuration.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from morgand import __version__
from morgand.base.datadir import holder
from morgand.base.errors import ConfigError, MorganError
from morgand.config import Config, default_config_paths, load
from morgand.roles.catalog import NAMES

EXIT_ERROR, EXIT_USAGE, EXIT_CONFIG = 1, 64, 78
START_DEADLINE_S = 180.0  # on a slow machine that has much else to do; some seconds on others
STOP_DEADLINE_S = 80.0  # handing over, saying goodbye and ending the database have 48 s; systemd waits for 90
TELL_AFTER_S = 4.0

_config = click.option(
    "--config", "file", type=click.Path(path_type=Path), help="Configuration file (TOML) in place of the default ones."
)
_set = click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Overrides one setting.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="morgand")
def cli() -> None:
    """The daemon of Morgan, a self-hosted AI assistant that lives on several ordinary machines.

    \b
    Examples:
      morgand check                      what this host would run, and what is missing
      morgand run                        run in the foreground, log to stderr
      morgand run --set api.listen=off   without the TCP API
      morgand start; morganctl status    run in the background
      morgand join 192.168.1.10 TOKEN    become part of the cluster that invited this host
    """


@cli.command()
@_config
@_set
def run(file: Path | None, settings: tuple[str, ...]) -> None:
    """Run the daemon in the foreground. SIGTERM and Ctrl-C stop it in good order."""
    from morgand import daemon

    daemon.run(read_config(file, settings))


@cli.command()
@_config
@_set
def start(file: Path | None, settings: tuple[str, ...]) -> None:
    """Run the daemon in the background. Its log is DATA_DIR/logs/morgand.log.

    Returns when what this host runs is loaded, or a minute after it can answer questions, and says what still loads.
    """
    from morgand.host import startup

    config = read_config(file, settings)
    if (pid := holder(config.data_dir)) is not None:
        click.echo(f"morgand runs already (process {pid}).")
        return
    os.umask(0o077)  # before the first folder: its parents are made without a mode
    log, socket = config.data_dir / "logs" / "morgand.log", config.data_dir / "morgand.sock"
    log.parent.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "morgand", "run", *(["--config", str(file)] if file else [])]
    argv += [part for one in settings for part in ("--set", one)]
    with log.open("ab") as output:
        child = subprocess.Popen(  # noqa: S603 - our own program with the arguments we were given
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )

    def up() -> bool:
        if child.poll() is not None:
            raise MorganError(f"morgand ended at once: {_last_line(log)}", remedy=f"The whole log is {log}.")
        return holder(config.data_dir) == child.pid and startup.answers(startup.health(socket))

    def roles() -> startup.Roles:
        found = startup.health(socket) if up() else None
        return found.roles if found is not None else {}

    if not _awaited(up, START_DEADLINE_S, "Starting the engines ..."):
        raise MorganError("morgand did not answer in time.", remedy=f"Its log is {log}.")
    found = startup.until_loaded(roles, partial(click.echo, err=True))
    click.echo("\n".join([f"morgand runs (process {child.pid}); its log is {log}.", *startup.summary(found)]))


@cli.command()
@_config
@_set
def stop(file: Path | None, settings: tuple[str, ...]) -> None:
    """Stop the daemon that runs on the data directory, and wait for its end."""
    data_dir = read_config(file, settings).data_dir
    pid = holder(data_dir)
    if pid is None:
        click.echo(f"No morgand runs on {data_dir}.")
        return
    os.kill(pid, signal.SIGTERM)
    if not _awaited(
        lambda: holder(data_dir) != pid, STOP_DEADLINE_S, "Handing over what runs here; up to a minute ..."
    ):
        raise MorganError(f"morgand (process {pid}) does not stop.", remedy="Look at its log; end it by hand.")
    click.echo("morgand stopped.")


def _awaited(holds: Callable[[], bool], within_s: float, told: str) -> bool:
    """Whether it came to hold in time. Whoever waits for long is told what for."""
    began, silent = time.monotonic(), True
    while not holds():
        waited_s = time.monotonic() - began
        if waited_s > within_s:
            return False
        if silent and waited_s > TELL_AFTER_S:
            click.echo(told, err=True)
            silent = False
        time.sleep(0.1)
    return True


@cli.command()
@click.argument("words", nargs=-1, required=True, metavar="[ADDRESS] TOKEN")
@_config
@_set
def join(words: tuple[str, ...], file: Path | None, settings: tuple[str, ...]) -> None:
    """Become part of a cluster, with the token or the spoken code of `morganctl cluster invite`.

    Without ADDRESS the hosts of cluster.seeds are asked, then the local network is searched. A TOKEN of - is read from
    standard input.

    \b
    Examples:
      morgand join 192.168.1.10 MRGN1-...
      morgand join 7-coral-walnut
    """
    from morgand.membership.join import join as become_member

    if len(words) > 2:
        raise click.UsageError("Write: morgand join [ADDRESS] TOKEN")
    address, token = words if len(words) == 2 else (None, words[0])
    config = read_config(file, settings)
    os.umask(0o077)
    asyncio.run(become_member(config, address, sys.stdin.readline() if token == "-" else token, say=click.echo))  # noqa: S105


@cli.command()
@_config
@_set
@click.option("--yes", is_flag=True, help="Do not ask.")
def recover(file: Path | None, settings: tuple[str, ...], *, yes: bool) -> None:
    """Go on with this host alone when most voters of its cluster are lost for good. Its daemon must be stopped.

    Says what is given up before it asks. Refused while the lost voters could still decide.
    """
    from morgand.membership.recover import recover as go_on

    def confirmed() -> bool:
        return yes or click.confirm("Go on with this host alone?", default=False)

    os.umask(0o077)
    asyncio.run(go_on(read_config(file, settings), say=click.echo, confirmed=confirmed))


@cli.command()
@_config
@_set
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(file: Path | None, settings: tuple[str, ...], *, as_json: bool) -> None:
    """Say what this host could run, why, and what is missing. Changes nothing."""
    from morgand.host.preflight import examine

    report: Any = examine(read_config(file, settings))
    click.echo(json.dumps(report.data, indent=2) if as_json else "\n".join(report.lines))


def read_config(file: Path | None, settings: tuple[str, ...]) -> Config:
    """The configuration from ``--config`` or the first default file that exists."""
    if file is not None:
        return load(file, os.environ, settings, must_exist=True, roles=NAMES)
    found = next((path for path in default_config_paths() if path.is_file()), None)
    return load(found, os.environ, settings, roles=NAMES)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def main() -> None:
    """Run the command; every expected error is a sentence on stderr and an exit code."""
    try:
        cli.main(standalone_mode=False)
    except click.UsageError as err:
        err.show()
        sys.exit(EXIT_USAGE)
    except click.exceptions.Exit as err:
        sys.exit(err.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_ERROR)
    except MorganError as err:
        click.echo(f"morgand: {err}", err=True)
        sys.exit(EXIT_CONFIG if isinstance(err, ConfigError) else EXIT_ERROR)


if __name__ == "__main__":
    main()

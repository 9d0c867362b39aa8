"""The command tree and the way in: options, exit codes, and one line in place of any traceback."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import click

from morganctl import errors, record
from morganctl.app import App, Group
from morganctl.commands import (
    chat,
    cluster,
    completion,
    config,
    conversations,
    documents,
    feedback,
    hosts,
    ingest,
    keys,
    logs,
    query,
    roles,
    search,
    status,
)
from morganctl.errors import CliError
from morganctl.output import Output
from morgand import __version__

COMMANDS = (
    chat.chat, query.query, search.search, ingest.ingest, documents.documents, conversations.conversations,
    status.status, hosts.hosts, roles.roles, cluster.cluster, config.config, feedback.feedback, keys.keys, logs.logs,
    completion.completion,
)  # fmt: skip


def _show_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001  # Click's signature
    if not value or ctx.resilient_parsing:
        return
    if ctx.obj.out.json:
        ctx.obj.out.document({"version": __version__})
    else:
        click.echo(f"morganctl {__version__}")
    ctx.exit()


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    examples=(
        "morganctl ingest ~/Documents",
        'morganctl query "When is the boiler due for service?"',
        "morganctl chat",
        "morganctl --json status",
    ),
)
@click.option("--url", metavar="URL", help="Speak to the daemon at this address in place of the local socket.")
@click.option("--data-dir", metavar="DIR", help="Data directory of the local daemon; its socket is in there.")
@click.option("--key-file", metavar="FILE", help="File with the API key; MORGAN_API_KEY holds it otherwise.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Print the version."
)
@click.pass_obj
def cli(app: App, url: str | None, data_dir: str | None, key_file: str | None) -> None:
    """Talk to Morgan, feed it documents and see how it is doing.

    Without --url the local daemon is asked through the socket in its data directory: --data-dir, else
    MORGAN_HOST__DATA_DIR, else the user's data directory.

    Exit codes: 0 success, 1 error, 2 service unavailable, 64 usage.
    """
    app.url, app.data_dir, app.key_file = url, data_dir, key_file


for _command in COMMANDS:
    cli.add_command(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Known before parsing, so that a fault in the command line itself is reported as JSON too.
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    app = App(out=Output(json="--json" in options))
    _tame_streams()
    previous_hook = sys.excepthook
    sys.excepthook = lambda kind, error, trace: _last_resort(app.out, kind, error, trace)
    started = time.monotonic()
    code = _guarded(arguments, app)
    sys.excepthook = previous_hook
    if options and not {"--help", "-h", "--version"} & set(options) and "_MORGANCTL_COMPLETE" not in os.environ:
        record.command(next((word for word in options if word in cli.commands), "-"), code, time.monotonic() - started)
    return code


def _guarded(arguments: list[str], app: App) -> int:
    """The exit code of the command; every expected error printed."""
    try:
        result = cli.main(arguments, prog_name="morganctl", standalone_mode=False, obj=app)
    except CliError as err:
        return _fail(app.out, err.exit_code, err.code, err.message, err.remedy)
    except click.exceptions.NoArgsIsHelpError as err:
        return _fail(app.out, errors.USAGE, "usage", err.format_message(), None)
    except click.UsageError as err:
        path = err.ctx.command_path if err.ctx else "morganctl"
        return _fail(app.out, errors.USAGE, "usage", err.format_message(), f"See `{path} --help`.")
    except UnicodeEncodeError:
        return _fail(app.out, errors.USAGE, "usage", "An argument is not valid UTF-8.", None)
    except click.ClickException as err:
        return _fail(app.out, errors.ERROR, "error", err.format_message(), None)
    except (click.Abort, KeyboardInterrupt):
        return _fail(app.out, errors.ERROR, "interrupted", "Interrupted.", None)
    except BrokenPipeError:
        # The reader has what it wanted; keep Python from complaining again while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.ERROR
    return result if isinstance(result, int) else errors.OK


def _fail(out: Output, exit_code: int, code: str, message: str, remedy: str | None) -> int:
    if out.json and not out.done:
        out.document({"error": {"code": code, "message": message, "remedy": remedy}})
    else:
        out.note(message if remedy is None else f"{message} {remedy}")
    return exit_code


def _last_resort(out: Output, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """One line for an error nobody expected; Python then exits with 1."""
    kept = record.crash(kind, error, trace)
    remedy = f"Details are in {record.log_path()}." if kept else None
    _fail(out, errors.ERROR, "internal", f"morganctl failed unexpectedly ({kind.__name__}: {error}).", remedy)


def _tame_streams() -> None:
    """A terminal that is not UTF-8 shows escapes in place of an encoding error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")

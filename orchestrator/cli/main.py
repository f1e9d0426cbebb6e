"""Composition root of fleetctl: the command tree, global options, and how an error becomes an exit code."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

from fleet.errors import ExitCode, FleetError
from orchestrator.cli import (
    audit,
    bundle,
    coordinator,
    crash,
    deploy,
    grant,
    initialise,
    inventory,
    node,
    operate,
    operator,
    secret,
    transfer,
    trusting,
    wit,
)
from orchestrator.cli.context import Overrides, fleet_home
from orchestrator.cli.render import Format, Output
from orchestrator.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells report it (128 + SIGINT)."""

FILE = click.Path(dir_okay=False, path_type=Path)
FORMATS = click.Choice([form.value for form in Format])


class _Program(click.Group):
    """The command tree; a broken pipe is caught here, because click would end the program as failed."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; end well when the reader of a pipe has seen enough (`fleetctl logs -f | head`)."""
        try:
            result: object = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody is left to tell
            return ExitCode.OK
        return result


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--output", "-o", "form", type=FORMATS, default="table", show_default=True)
@click.option("--context", envvar="FLEET_CONTEXT", metavar="NAME", help="Context of the config file.")
@click.option("--address", envvar="FLEET_ADDRESS", metavar="HOST:PORT", help="Address of the coordinator.")
@click.option("--ca", envvar="FLEET_CA", type=FILE, help="Certificate that the coordinator is checked against.")
@click.option("--certificate", envvar="FLEET_CERTIFICATE", type=FILE, help="The operator's certificate.")
@click.option("--key", envvar="FLEET_KEY", type=FILE, help="The operator's private key.")
@click.option("--trust", envvar="FLEET_TRUST", type=click.Path(path_type=Path), help="The trust directory.")
@click.option("--quiet", "-q", is_flag=True, help="No progress on stderr.")
@click.version_option(version("edge-fleet-orchestrator"), prog_name="fleetctl")
@click.pass_context
def fleetctl(ctx: click.Context, /, form: str, quiet: bool, **connection: Path | str | None) -> None:  # noqa: FBT001
    """Run signed WebAssembly agents on a fleet of edge nodes.

    Every connection option has an environment variable: FLEET_CONTEXT, FLEET_ADDRESS, FLEET_CA, FLEET_CERTIFICATE,
    FLEET_KEY, FLEET_TRUST. FLEET_HOME is the directory of the config file (default ~/.fleet).
    """
    ctx.obj = Session(
        home=fleet_home(os.environ),
        overrides=Overrides(**connection),  # type: ignore[arg-type]  # click converted each to its field's type
        output=Output(Format(form), quiet=quiet),
        now=lambda: datetime.now(UTC),
    )


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    For bash: eval "$(fleetctl completion bash)"
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(fleetctl, {}, "fleetctl", "_FLEETCTL_COMPLETE").source())


COMMANDS = (
    initialise.init,
    coordinator.coordinator,
    node.node,
    operator.operator,
    operator.login,
    bundle.bundle,
    grant.grant,
    deploy.plan,
    deploy.deploy,
    deploy.undeploy,
    deploy.watch,
    deploy.cancel,
    inventory.status,
    inventory.nodes,
    inventory.agents,
    inventory.deployments,
    inventory.events,
    operate.call,
    operate.send,
    operate.logs,
    crash.crash,
    secret.secret,
    audit.audit,
    trusting.trust,
    wit.wit,
    completion,
)


def _set_format(ctx: click.Context, _parameter: click.Parameter, form: str | None) -> None:
    if form is not None:
        ctx.obj = replace(ctx.obj, output=ctx.obj.output.in_format(Format(form)))


def _accept_output(command: click.Command) -> None:
    """Let --output also stand behind a command, where most people write it."""
    if isinstance(command, click.Group):
        for child in command.commands.values():
            _accept_output(child)
    else:
        option = click.Option(
            ["--output", "-o"], type=FORMATS, expose_value=False, callback=_set_format, help="As before the command."
        )
        command.params.append(option)


for joining in transfer.COMMANDS:
    bundle.bundle.add_command(joining)
for command in COMMANDS:
    _accept_output(command)
    fleetctl.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run fleetctl; returns the exit code. Never prints a stack trace for a fault of the world."""
    try:
        result = fleetctl.main(args=arguments, prog_name="fleetctl", standalone_mode=False)
    except FleetError as error:
        Output(Format.TABLE).fault(error)
        return error.row.exit_code
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except click.Abort as abort:
        if not isinstance(abort.__cause__, KeyboardInterrupt):  # click aborts a question that nobody answers, too
            Output(Format.TABLE).note("\nNot confirmed: nothing was changed.")
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    return int(result) if isinstance(result, int) else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())

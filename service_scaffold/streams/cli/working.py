"""`worker`: run the application."""

from __future__ import annotations

import click

from service_scaffold.streams.cli.bars import recoveries_shown
from service_scaffold.streams.cli.flags import collected
from service_scaffold.streams.cli.program import Program


def worker(program: Program) -> click.Command:
    """Return the command that runs a worker; all that follows it is read by the application."""

    @click.command(
        add_help_option=False,
        context_settings={'ignore_unknown_options': True, 'allow_interspersed_args': False},
    )
    @click.argument('flags', nargs=-1, type=click.UNPROCESSED)
    @click.pass_context
    def worker(ctx: click.Context, flags: tuple[str, ...]) -> None:
        """Run a worker; `worker --help` shows its options."""
        with recoveries_shown(program.topology):
            program.run([*collected(), *flags], ctx.command_path)

    return worker

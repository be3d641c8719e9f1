"""`python -m service_scaffold.streams -A package.module:app worker`: any application's commands."""

from __future__ import annotations

import importlib
from typing import Any

import click

from service_scaffold import errors, options
from service_scaffold.streams import cli


@click.command(
    add_help_option=False,
    context_settings={'ignore_unknown_options': True, 'allow_interspersed_args': False},
)
@click.option('--app', '-A', 'path', metavar='MODULE:NAME', help='The application [NAME: app].')
@click.argument('args', nargs=-1, type=click.UNPROCESSED, metavar='COMMAND...')
@click.pass_context
def main(ctx: click.Context, path: str | None, args: tuple[str, ...]) -> None:
    """Run a command of an application; `--help` after `-A` lists them."""
    if path is None:
        if {'-h', '--help'} & {*args}:
            click.echo(ctx.get_help())
            return
        raise click.UsageError('Which application? Give -A package.module:NAME')
    try:
        program = cli.commands(load(path))
    except errors.ScaffoldError as error:
        raise click.ClickException(options.mask_text(str(error))) from error
    program.main(list(args), prog_name=f'{ctx.command_path} -A {path}')


def load(path: str) -> Any:
    """Return what `package.module:NAME` names; without a name, what is called `app` there.

    Raises:
        UsageError: There is no such module, or nothing of that name in it.
    """
    module_name, _, name = path.partition(':')
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f'{module_name}.'.startswith(f'{error.name}.'):
            raise  # something that the module itself needs
        raise click.UsageError(f'There is no module {error.name!r}') from error
    for part in (name or 'app').split('.'):
        if not hasattr(found, part):
            raise click.UsageError(f'There is no {part!r} in {found.__name__}')
        found = getattr(found, part)
    return found


if __name__ == '__main__':
    main()

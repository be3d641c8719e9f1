"""One option: declared once, it is flag, environment variable, file key, keyword and docs row."""

from __future__ import annotations

import argparse
import builtins
from collections.abc import Callable, Iterable
from dataclasses import dataclass

ENVIRONMENT_PREFIX = 'SERVICE_'


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a service or of a feature.

    Args:
        name: Words joined by hyphens, as in `eventbus-url`: the flag is `--eventbus-url`, the
            environment variable `SERVICE_EVENTBUS_URL`, the file key `eventbus-url`, and the key
            in the configuration (and the keyword of a ready-made app) `eventbus_url`.
        help: One line; may hold `%(default)s`.
        type: Makes the value from text; raises `argparse.ArgumentTypeError` or ValueError.
        default: The value when nothing else gives one. A text goes through `type`.
        default_factory: Gives the default when the parser is made, for what depends on the machine.
        flags: Short flags, as in `('-H',)`.
        choices: The only values that are allowed.
        switch: Takes no value on the command line: present is True. With a default of True, or
            with `negatable`, there is a `--no-` form of the flag as well.
        negatable: See `switch`; for switches that are None until somebody decides.
        secret: Never shown.
        takes: Types of objects that may be given as the keyword and are taken as they are, where
            `type` makes one from text (as from an import path).
        aliases: Further long flags, as in `('--broker',)`.
        metavar: What stands for the value in the help.
    """

    name: str
    help: str
    type: Callable[[str], object] = str
    default: object = None
    default_factory: Callable[[], object] | None = None
    flags: tuple[str, ...] = ()
    choices: tuple[str, ...] | None = None
    switch: bool = False
    secret: bool = False
    metavar: str | None = None
    negatable: bool = False
    takes: tuple[builtins.type, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its key in the configuration."""
        return self.name.replace('-', '_')

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return ENVIRONMENT_PREFIX + self.key.upper()

    def add_to(self, parser: argparse._ActionsContainer) -> None:
        """Add it to a parser, or to an argument group of one."""
        flags = (*self.flags, f'--{self.name}', *self.aliases)
        if self.switch and (self.negatable or self.default):
            parser.add_argument(
                *flags,
                action=argparse.BooleanOptionalAction,
                default=self.default,
                help=self.help,
            )
            return
        if self.switch:
            parser.add_argument(*flags, action='store_true', help=self.help)
            return
        parser.add_argument(
            *flags,
            type=self.type,
            default=self.default_factory() if self.default_factory else self.default,
            choices=self.choices,
            metavar=self.metavar,
            help=self.help,
        )


def add_options(
    parser: argparse.ArgumentParser, options: Iterable[Option], group: str | None = None
) -> None:
    """Add `options` to `parser`; those that it already has are left as they are.

    This is all that a feature's own `add_arguments(parser)` has to do with its table.

    Args:
        group: Heading in the help.
    """
    present = {flag for action in parser._actions for flag in action.option_strings}
    missing = [option for option in options if f'--{option.name}' not in present]
    if not missing:
        return
    target = parser.add_argument_group(group) if group else parser
    for option in missing:
        option.add_to(target)
    declared = getattr(parser, 'declared', None)
    if isinstance(declared, dict):
        declared.update({option.key: option for option in missing})

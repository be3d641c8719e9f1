"""The options that an application that is an asset has besides those of every service."""

from __future__ import annotations

from service_scaffold.options import Option, values

OPTIONS = (
    Option(
        'replica',
        'Number of this replica, from 1: the asset is then NAME-NUMBER',
        type=values.replica,
        metavar='NUMBER',
    ),
    Option(
        'application-version',
        'Version that the asset shows [%(default)s]',
        default='latest',
        metavar='TEXT',
    ),
    Option(
        'application-manufacturer',
        'Manufacturer that the asset shows [%(default)s]',
        default='OpenFactory',
        metavar='TEXT',
    ),
    Option(
        'application-license',
        'Licence that the asset shows [%(default)s]',
        default='BSD-3-Clause license',
        metavar='TEXT',
    ),
)

SHOWN = ('version', 'manufacturer', 'license')
"""What the asset shows of the application."""

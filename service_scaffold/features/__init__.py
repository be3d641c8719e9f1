"""Application-scoped objects with a lifecycle: start in order, stop in reverse."""

from service_scaffold.features.families import Family, Histogram, Labels, Spread
from service_scaffold.features.feature import ServiceFeature, Startup
from service_scaffold.features.health import Health
from service_scaffold.features.lifecycle import (
    LIFECYCLE,
    Lifecycle,
    State,
    StopFailure,
)
from service_scaffold.features.registry import (
    add,
    get,
    get_clock,
    get_lifecycle,
    has,
    set_clock,
)

__all__ = [
    'LIFECYCLE',
    'Family',
    'Health',
    'Histogram',
    'Labels',
    'Lifecycle',
    'ServiceFeature',
    'Spread',
    'Startup',
    'State',
    'StopFailure',
    'add',
    'get',
    'get_clock',
    'get_lifecycle',
    'has',
    'set_clock',
]

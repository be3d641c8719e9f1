"""The options of an app as attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service_scaffold import options


class Conf:
    """Reads the options: `app.conf.broker_commit_interval`; other names of an option work as well.

    Args:
        config: Each option's value.
        same: Other names.
        more: Values that are no option.
    """

    def __init__(
        self, config: Mapping[str, Any], same: Mapping[str, str], more: Mapping[str, Any]
    ) -> None:
        self.__dict__.update(_config=config, _same=same, _more=more)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        if name in self._more:
            return self._more[name]
        key = self._same.get(name, name)
        if key not in self._config:
            known = [*self._config, *self._same]
            raise AttributeError(f'There is no option {name!r}{options.nearest(name, known)}')
        return self._config[key]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f'{name}: options are given as keywords, flags or variables')

    def __dir__(self) -> list[str]:
        return sorted({*self._config, *self._same, *self._more})

"""`WebAssetApp`: an application that is an asset, with a Flask site on the same port."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from service_scaffold import options
from service_scaffold.apps.asset import AssetApp
from service_scaffold.http import apidoc, forwarded, wsgi

if TYPE_CHECKING:
    from flask import Flask

DEFAULT_PORT = 4000
OURS = '/_service'
"""Where our own resources stand; all else is the site's."""


class WebAssetApp(AssetApp):
    """An application that is an asset, with a Flask site at `/`.

        class Dashboard(WebAssetApp):
            mode = assets.event('IDLE', tag='Mode')

            def configure_routes(self):
                @self.app.route('/')
                def root():
                    return {'mode': current_app.service_app.mode.value}

        Dashboard('dashboard').run()

    Routes of `application` come before those of the site; ours, the API page and the assets stand
    under `/_service`. The port is 4000, unless `--port` or the environment's `PORT` says. Views run
    in threads: they read attributes as they are, and change them through `service_app.sync`.

    Attributes:
        app: The Flask application; in its views it is `current_app`, and `current_app.service_app`
            is this object.

    Raises:
        TypeError: `main_loop` is overridden: here the loop is `async_main_loop`; or
            `create_flask_app` returns no Flask application.
        ImportError: Flask is not installed.
    """

    PREFIX: ClassVar[str | None] = ''
    ASSETS_PATH = f'{OURS}/assets'

    app: Flask

    def __init__(self, asset_id: str | None = None, **options: Any) -> None:
        super().__init__(asset_id, **options)
        self.application[apidoc.PLACE] = OURS
        self.app = self._created()
        self._own_root = str(self.app.config.get('APPLICATION_ROOT') or '/')
        self._set_root()
        self.app.service_app = self  # type: ignore[attr-defined]
        self.configure_routes()
        wsgi.mount(self.application, '', self.app)

    def create_flask_app(self) -> Flask:
        """Return the site; override it to configure one, with middleware and extensions."""
        return _flask()(type(self).__module__)

    def _created(self) -> Flask:
        site: object = self.create_flask_app()
        if not isinstance(site, _flask()):
            raise TypeError(
                f'{type(self).__name__}.create_flask_app must return a Flask application, not'
                f' {site!r}; middleware goes to its wsgi_app'
            )
        return site

    def configure_routes(self) -> None:
        """Override it to add routes and blueprints to `app`."""

    async def async_main_loop(self) -> None:
        """Keep the application alive; override it to work on the event loop."""
        await asyncio.Event().wait()

    def _check_loops(self) -> None:
        if self._overrides('main_loop'):
            raise TypeError(
                f'{type(self).__name__} overrides main_loop; beside a site override async_main_loop'
            )

    def add_arguments(self, parser: options.OptionParser) -> None:
        """Add the options of this app, and its own defaults of others."""
        super().add_arguments(parser)
        parser.set_defaults(port=DEFAULT_PORT)

    def configured(self) -> None:
        """Take the options, also of a second reading."""
        super().configured()
        if hasattr(self, 'app'):
            self._set_root()

    def _furnish(self) -> None:
        super()._furnish()
        if self._own_root != '/':  # the factory has said what the browser sees
            self.application[forwarded.FORWARDED].public_paths.add(self._own_root)

    def _set_root(self) -> None:
        """Let cookies be those of the path that a proxy strips, unless the factory has said."""
        if self._own_root == '/':
            self.app.config['APPLICATION_ROOT'] = str(self.config['root_path'] or '/')


def _flask() -> type[Flask]:
    try:
        from flask import Flask
    except ImportError as error:
        raise ImportError('WebAssetApp needs Flask: pip install service-scaffold[flask]') from error
    return Flask

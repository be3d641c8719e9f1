"""A Flask site that shows the machine of `mill.py`, and switches its own light.

    python examples/site.py --eventbus-url mqtt://localhost
    curl localhost:4000

Behind a proxy that strips a prefix: `ROOT_PATH=/shop python examples/site.py`; `nginx.conf` beside
this file is such a proxy.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask, current_app, redirect, session, url_for

from service_scaffold import assets
from service_scaffold.apps import WebAssetApp

machines = Blueprint('machines', __name__, url_prefix='/machines')


@machines.route('/<name>')
def show(name: str) -> dict[str, Any]:
    """Show a machine."""
    site = current_app.service_app  # type: ignore[attr-defined]
    machine = site.sync.call(site.open(name))
    values = {id: one.value for id, one in machine.attributes('sample').items()}
    return {'machine': name, 'available': machine.available, 'values': values}


class Site(WebAssetApp):
    """A site with one light."""

    light = assets.event('OFF', tag='Light')

    def create_flask_app(self) -> Flask:
        site = Flask(__name__)
        site.config['SECRET_KEY'] = 'change me'
        return site

    def configure_routes(self) -> None:
        self.app.register_blueprint(machines)

        @self.app.route('/')
        def home() -> dict[str, Any]:
            session['visits'] = session.get('visits', 0) + 1
            mill = url_for('machines.show', name='mill-1')
            return {'light': self.light.value, 'visits': session['visits'], 'mill': mill}

        @self.app.route('/switch/<value>', methods=['POST'])
        def switch(value: str) -> Any:
            self.sync.set('light', value.upper())
            return redirect(url_for('home'))


if __name__ == '__main__':
    Site('site').run()

"""Every code block of OpenFactory's documentation of its apps, with our names: whole programs.

`NAME` and `URL` are filled in; the routes of the second page are its module `routes.root`.
"""

from __future__ import annotations

DEMO = """
import time
import os
from service_scaffold.apps import AssetApp

class DemoApp(AssetApp):

    def main_loop(self):
        # For actual use case, add here your logic of the app
        self.logger.info("I don't do anything useful in this example.")
        counter = 1
        while True:
            self.logger.info(f"Counter: {counter}")
            counter += 1
            time.sleep(2)

    def app_event_loop_stopped(self):
        print("the event loop has stopped", flush=True)

app = DemoApp(
    os.getenv("APP_UUID", "NAME"),
    eventbus_url=os.getenv("EVENTBUS", "URL")
)
app.run()
"""

INLINE_ROUTES = """
import os
import asyncio
from flask import current_app
from service_scaffold import assets
from service_scaffold.apps import WebAssetApp

class DemoFlaskApp(WebAssetApp):

    status = assets.event(value="idle", tag="App.Status")

    def configure_routes(self):
        @self.app.route("/")
        def root():
            service_app = current_app.service_app
            return {
                "status": service_app.status.value
            }

    @assets.method(description="Move axis")
    def move_axis(self, x: float, y: float):
        self.logger.info(f"Move to {x},{y}")

    async def async_main_loop(self):
        while True:
            await asyncio.sleep(0.1)
            self.logger.info("Background task running")

app = DemoFlaskApp(
    "NAME",
    eventbus_url=os.getenv("EVENTBUS", "URL"),
)
app.run()
"""

ROOT_MODULE = """
from flask import Blueprint, current_app

root_bp = Blueprint("root", __name__)

@root_bp.route("/")
def root():
    service_app = current_app.service_app
    return {
        "availability": service_app.avail.value
    }
"""

BLUEPRINTS = """
# main.py
import os
import asyncio
from service_scaffold.apps import WebAssetApp
from routes.root import root_bp

class DemoFlaskApp(WebAssetApp):

    def configure_routes(self):
        self.app.register_blueprint(root_bp)

    async def async_main_loop(self):
        while True:
            await asyncio.sleep(5)

app = DemoFlaskApp(
    "NAME",
    eventbus_url=os.getenv("EVENTBUS", "URL"),
)
app.run()
"""

FACTORY = """
import os
import asyncio
from flask import Flask
from service_scaffold.apps import WebAssetApp

class DemoFlaskApp(WebAssetApp):

    def create_flask_app(self):
        app = Flask(__name__)
        app.config["SECRET_KEY"] = "my-secret-key"
        return app

    def configure_routes(self):
        @self.app.route("/")
        def root():
            return {
                "message": "Hello Flask"
            }

    async def async_main_loop(self):
        while True:
            await asyncio.sleep(5)

app = DemoFlaskApp(
    "NAME",
    eventbus_url=os.getenv("EVENTBUS", "URL"),
)
app.run()
"""

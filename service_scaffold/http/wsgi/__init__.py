"""A WSGI application (Flask, Django, …) on the port of the service, streamed both ways.

`mount(app, '/site', flask_app)`; native routes win over it.
"""

from service_scaffold.http.wsgi.mount import Mount, mount
from service_scaffold.http.wsgi.settings import OPTIONS, Settings, add_arguments

__all__ = ['OPTIONS', 'Mount', 'Settings', 'add_arguments', 'mount']

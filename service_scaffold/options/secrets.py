"""Keeps credentials out of everything that is shown."""

from __future__ import annotations

import re

MASK = '***'

# The password may hold an unescaped `@`, `/` or `#` (a mistake, but it must not leak), so the
# match is greedy up to the last `@`. `host:8080/…@…` is a port and a path, not a password.
_WITH_PASSWORD = re.compile(
    r"""://
        (?![^\s/?\#@:"'<>]*:\d{1,5}(?:[/?\#,]|$))  # not host:port/
        [^\s/?\#@:"'<>]*:[^\s"'<>]*@               # user:password@""",
    re.VERBOSE,
)
_WITH_USER = re.compile(r"""://[^\s/?#@:"'<>]+@""")
_IN_QUERY = re.compile(
    r"""([?&][^=&\s]{0,40}(?:password|passwd|secret|token|api_?key)[^=&\s]{0,40}=)[^&\s"'<>]+""",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(
    r'passw(or)?d|passphrase|secret|token|credential|api[-_]?key|private[-_]?key', re.IGNORECASE
)


def mask_text(text: str) -> str:
    """Return `text` with the credentials of every URL and path in it replaced by `***`."""
    if '://' in text:
        text = _WITH_PASSWORD.sub(f'://{MASK}@', text)
        text = _WITH_USER.sub(f'://{MASK}@', text)
    elif '?' not in text:
        return text
    return _IN_QUERY.sub(rf'\g<1>{MASK}', text)


def mask_url(url: str) -> str:
    """Return `url` without its credentials, for logs, messages and pages.

    Everything between `://` and the last `@` is masked, also where the password holds characters
    that should have been percent-encoded, and so are query values named like a secret.
    """
    scheme, separator, rest = url.partition('://')
    if not separator:
        return url
    _, mark, location = rest.rpartition('@')
    if mark:
        rest = f'{MASK}@{location}'
    return _IN_QUERY.sub(rf'\g<1>{MASK}', f'{scheme}://{rest}')


def looks_secret(name: str) -> bool:
    """Tell whether an option of that name holds a secret, so that its value must not be shown."""
    return _SECRET_NAME.search(name) is not None

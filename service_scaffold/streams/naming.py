"""Names of topics that are made of an application's id."""

from __future__ import annotations

from collections.abc import Iterable

from service_scaffold.journal.naming import check_topic_name
from service_scaffold.streams.registry import workers_topic


def check_id(id: str, reply_to: str, others: Iterable[str] = ()) -> None:
    """Make sure that topics can have the names that an application gives them.

    Args:
        id: The application's.
        reply_to: Where answers go.
        others: More names that are made of the id.

    Raises:
        ConfigError: One cannot.
    """
    made = f'made of the id {id!r} of the application; give that one a shorter id'
    for name in (workers_topic(id), *others):
        check_topic_name(name, made)
    asking = 'for the answers of agents; see the options id, reply_to and reply_to_prefix'
    check_topic_name(reply_to, asking)

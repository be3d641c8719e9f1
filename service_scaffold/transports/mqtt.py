"""MQTT 5: events are topics, a group is a shared subscription of kept sessions.

A transport has one connection with a session of its own for publishing, live views and answers,
and one more for each group. See `docs/transports-mqtt.md` for how everything is mapped.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar
from urllib.parse import quote

from service_scaffold import errors
from service_scaffold.message import Message
from service_scaffold.transports import mqtt_messages as wire
from service_scaffold.transports.base import (
    Capabilities,
    Delivery,
    Intake,
    IntakeSpec,
    Progress,
    ReplyCallback,
    Settings,
    Transport,
)
from service_scaffold.transports.leased_presence import LeasedPresence
from service_scaffold.transports.mqtt_client import Session
from service_scaffold.transports.mqtt_connection import Connection
from service_scaffold.transports.mqtt_group import GroupIntake
from service_scaffold.transports.mqtt_live import LiveIntake
from service_scaffold.transports.mqtt_outbox import Encode
from service_scaffold.transports.mqtt_packets import Incoming
from service_scaffold.transports.mqtt_presence import MqttBoard, keepalive_s
from service_scaffold.transports.mqtt_retained import Retained
from service_scaffold.transports.mqtt_state import MqttState

LOGGER = logging.getLogger(__name__)


class MqttTransport(Transport):
    """One service's connections to one MQTT 5 broker."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        group_redelivery=False, knows_responders=True, copy_per_binding=True
    )

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._main: Connection | None = None
        self._live: LiveIntake | None = None
        self._groups: set[GroupIntake] = set()
        self._reply_topic: str | None = None
        self._on_reply: ReplyCallback | None = None
        space, limit_s = settings.namespace, settings.connect_timeout_s
        values = Retained(self._up, f'{space}.state', 2, limit_s)
        keep_s = settings.retention_s
        announcements = Retained(self._up, f'{space}.presence', 1, limit_s, keep_s)
        self._retained = (values, announcements)
        self.state = MqttState(values)
        self._board = MqttBoard(announcements, keep_s)
        self._presence = self.presence = LeasedPresence(
            self._board, settings.lease_s, settings.clock, self.lose
        )

    async def connect(self) -> None:
        settings = self.settings
        name = '.'.join((settings.name, settings.instance, settings.role, os.urandom(6).hex()))
        session = Session(client_id=quote(name, safe='@'))
        if self._presence.in_use:
            session = replace(session, keepalive_s=keepalive_s(settings.lease_s))
        if self._presence.first is not None:
            session = replace(session, will=self._board.will(*self._presence.first))
        self._main = Connection(settings, session, self._offer, self._main_lost)
        await self._main.open()
        await self._presence.connected()

    async def close(self) -> None:
        await self._presence.close(good=self._main is not None and self._main.lost is None)
        groups = list(self._groups)
        closing = [group.close() for group in groups]
        if self._main is not None:
            closing.append(self._main.close())
        await asyncio.gather(*closing)
        self._groups.clear()
        if self._live is not None:
            self._live.ended()
        self._end_readers(errors.ConnectionLost(f'Connection to {self.settings.address}: closed'))

    async def intake(self, spec: IntakeSpec) -> Intake:
        main = self._up()
        if spec.group is None:
            if self._live is not None and not self._live.closed:
                raise errors.BindingRefused('The live views of this connection are in use')
            self._live = LiveIntake(main)
            return self._live
        group = GroupIntake(self.settings, spec)
        self._groups = {other for other in self._groups if not other.closed} | {group}
        try:
            await self._claim(main, group)
            await group.open()
        except BaseException as error:
            self._groups.discard(group)
            if isinstance(error, errors.BrokerUnreachable):
                raise errors.IntakeLost(str(error)) from error
            raise
        return group

    async def _claim(self, main: Connection, group: GroupIntake) -> None:
        """Tell whoever uses the session now that it becomes ours, and hear it ourselves."""
        claim = Message('', '', group.token, reply_to=group.claim_topic)
        deaf = await main.subscribe({group.claim_topic: None})
        mute = await main.publish([claim], wire.answer, Progress())
        for error in (*deaf.values(), *mute.values()):
            LOGGER.debug('A second process with our --instance may stay unnoticed: %s', error)

    def envelope(self, delivery: Delivery) -> Message:
        return wire.envelope_of(delivery, self.settings.clock)

    async def publish(
        self, messages: Sequence[Message], progress: Progress, *, mandatory: bool = False
    ) -> Mapping[int, Exception]:
        return await self._up().publish(messages, wire.event, progress, mandatory=mandatory)

    async def dead_letter(self, message: Message) -> None:
        await self._publish_one(message, wire.dead_letter)

    async def open_replies(self, on_reply: ReplyCallback) -> str:
        main = self._up()
        topic = f'{quote(self.settings.name, safe="")}.replies/{os.urandom(8).hex()}'
        self._reply_topic, self._on_reply = topic, on_reply
        refused = await main.subscribe({topic: None})
        if refused:
            raise refused[topic]
        return topic

    async def reply(self, request: Message, answer: Message) -> None:
        addressed = answer.replace(reply_to=request.reply_to, correlation_id=request.correlation_id)
        await self._publish_one(addressed, wire.answer)

    async def _publish_one(self, message: Message, encode: Encode) -> None:
        failed = await self._up().publish([message], encode, Progress())
        if failed:
            raise failed[0]

    def _up(self) -> Connection:
        if self._main is None:
            raise errors.ConnectionLost(f'Not connected to {self.settings.address}')
        self._main.check()
        return self._main

    def _offer(self, incoming: Incoming) -> None:
        """Take what comes over the main connection; it is acknowledged at once."""
        assert self._main is not None
        self._main.ack(incoming)
        if incoming.topic == self._reply_topic and not incoming.identifiers:
            assert self._on_reply is not None
            self._on_reply(self.envelope(wire.delivery_of(incoming)))
            return
        if not incoming.identifiers and any(part.offer(incoming) for part in self._retained):
            return
        claimed = [group for group in self._groups if group.claim_topic == incoming.topic]
        for group in claimed:
            group.claimed(incoming.body)
        if self._live is not None and not claimed:
            self._live.offer(incoming)

    def _main_lost(self, reason: Exception) -> None:
        self.lose(reason)
        if self._live is not None:
            self._live.ended()
        self._end_readers(reason)

    def _end_readers(self, reason: Exception) -> None:
        for part in self._retained:
            part.end(reason)

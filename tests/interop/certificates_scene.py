"""One attempt of the matrix: who speaks how, and what can be done and seen there."""

import time
from dataclasses import dataclass, replace
from ssl import SSLSession

from mfserver.mqtt.packets import Connack
from tests.interop.certificates_world import MatrixWorld
from tests.interop.identity_certificates import Identity
from tests.interop.identity_clients import Closed, HandshakeFailed, Stream, WebSocket
from tests.interop.identity_lives import Life
from tests.interop.identity_rows import credentials
from tests.interop.identity_world import CLOSED, HANDSHAKE, Saying, Spoken, Thing, Ticket, connect

__all__ = ["Scene"]


@dataclass(frozen=True)
class Scene:
    """One attempt.

    :ivar method: how the certificate names its thing.
    """

    world: MatrixWorld
    method: str
    spoken: Spoken
    tls: str
    ticket: Ticket

    def saying(self, thing: Thing, identity: Identity) -> Saying:
        """Show a certificate, and say a thing's key and on MQTT its id."""
        return credentials(thing._replace(identity=identity), self.spoken, tls=self.tls)

    def say(self, thing: Thing, identity: Identity, session: SSLSession | None = None) -> str:
        return self.try_saying(replace(self.saying(thing, identity), session=session))

    def try_saying(self, saying: Saying) -> str:
        """Try to publish. How a connection ended is looked at once more by somebody who is in no hurry."""
        outcome = self.world.say(self.spoken, saying, self.ticket)
        if outcome not in (HANDSHAKE, CLOSED):
            return outcome
        try:
            stream = self.world.stream(self.spoken, saying)
            try:
                stream.receive(1)  # under TLS 1.3 the client learns of it here
            finally:
                stream.close()
        except HandshakeFailed:
            return HANDSHAKE
        except Closed:
            return CLOSED
        return "the server spoke"

    def life(self, thing: Thing, identity: Identity) -> Life:
        return Life(
            self.world, self.spoken, self.saying(thing, identity), self.ticket._replace(is_legitimate=True)
        )

    def falls_silent(self, life: Life, since: float) -> str:
        """Whether a live connection ends. On HTTP it may stay, and each request is refused."""
        if self.spoken.kind != "http":
            return life.ends(since)
        outcome = life.speaks(self.ticket.must_not)
        life.close()
        return outcome

    def stays(self, life: Life) -> str:
        """Whether a live connection is there still, a while after whatever happened."""
        time.sleep(0.5)
        outcome = life.speaks(self.ticket.may)
        life.close()
        return outcome

    def session(self, thing: Thing, identity: Identity) -> SSLSession:
        """A TLS session of this certificate's, whether it lets anybody in or not."""
        saying = self.saying(thing, identity)
        if self.spoken.kind != "mqtt":
            stream = self.world.stream(self.spoken, saying)
            assert stream.exchange("GET", "/health").status == 200
        else:
            mqtt = self.world.mqtt(self.spoken, saying)
            mqtt.send(connect(self.spoken, saying))
            assert isinstance(mqtt.receive(), Connack)
            inner = mqtt.stream.stream if isinstance(mqtt.stream, WebSocket) else mqtt.stream
            assert isinstance(inner, Stream)
            stream = inner
        session = stream.tls.session
        stream.close()
        assert session is not None
        return session

"""``twistd mainflux``: tells twistd where the server's options and service are made."""

from twisted.application.service import ServiceMaker

mainflux = ServiceMaker(
    "mfserver",
    "mfserver.tap",
    "Things talk over HTTP, WebSocket and MQTT, with keys or client certificates.",
    "mainflux",
)

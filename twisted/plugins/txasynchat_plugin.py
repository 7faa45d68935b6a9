"""Makes ``twistd asynchat`` and ``twist asynchat`` known. Imports nothing of txasynchat."""

from twisted.application.service import ServiceMaker

asynchat = ServiceMaker(
    "asynchat",
    "txasynchat.tap",
    "Serve an asynchat handler on any endpoint.",
    "asynchat",
)

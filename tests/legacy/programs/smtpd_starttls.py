"""A mail server on smtpd that offers STARTTLS, below an endpoint: PEM file, then mails on stdout."""

import sys

import txasynchat

txasynchat.install()

import smtpd  # noqa: E402
from twisted.internet import reactor  # noqa: E402
from twisted.internet.endpoints import TCP4ServerEndpoint  # noqa: E402
from twisted.internet.ssl import PrivateCertificate  # noqa: E402

with open(sys.argv[1], "rb") as pem:
    options = PrivateCertificate.loadPEM(pem.read()).options()


class Channel(smtpd.SMTPChannel):
    def smtp_EHLO(self, arg):
        self.seen_greeting = arg
        self.push("250-at your service")
        self.push("250 STARTTLS")

    def smtp_STARTTLS(self, arg):
        self.seen_greeting = ""
        self.push("220 go ahead")
        self.socket.start_tls(options)

    def smtp_EVIL(self, arg):
        print("EVIL", flush=True)


class Server(smtpd.SMTPServer):
    channel_class = Channel

    def process_message(self, peer, mailfrom, rcpttos, data, **kwargs):
        print("mail", mailfrom, *rcpttos, flush=True)


factory = txasynchat.LegacyFactory.for_server(Server(("127.0.0.1", 0), None))
listening = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
listening.addCallback(lambda port: print(port.getHost().port, flush=True))
reactor.run()

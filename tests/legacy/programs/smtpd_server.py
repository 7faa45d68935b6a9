#!/usr/bin/env python3
"""
A mail server that counts: it says on which port it listens, takes mails until it
gets SIGTERM, then prints who was sent how much.
"""

import asyncore
import hashlib
import json
import signal
import smtpd
import sys


class CountingServer(smtpd.SMTPServer):

    def __init__(self):
        smtpd.SMTPServer.__init__(self, ('127.0.0.1', 0), None)
        self.delivered = []
        self.connections = 0

    def handle_accepted(self, conn, addr):
        self.connections += 1
        smtpd.SMTPServer.handle_accepted(self, conn, addr)

    def process_message(self, peer, mailfrom, rcpttos, data, **kwargs):
        body = data.split(b'\n\n', 1)[1]
        self.delivered.append((mailfrom, rcpttos, hashlib.sha256(body).hexdigest()))


def stop(signum, frame):
    raise asyncore.ExitNow('asked to stop')


def main():
    server = CountingServer()
    signal.signal(signal.SIGTERM, stop)
    print(server.socket.getsockname()[1], flush=True)
    try:
        asyncore.loop(timeout=5)
    except asyncore.ExitNow:
        pass
    left = len(asyncore.socket_map)
    asyncore.close_all()
    json.dump({
        'connections': server.connections,
        'channels left': left,
        'delivered': server.delivered,
        'asyncore': asyncore.__file__,
    }, sys.stdout)


if __name__ == '__main__':
    main()

#!/usr/bin/env python3
"""
An IRC-like client that talks TLS by wrapping the socket of its dispatcher, and a
server of the same kind in a thread.

    idiom_12_ssl_wrap_socket.py CERTFILE KEYFILE CA_CERTS OTHER_CA_CERTS
"""

import asynchat
import asyncore
import select
import socket
import ssl
import sys
import threading


class TLSChat(asynchat.async_chat):
    """Lines over TLS."""

    def __init__(self, sock=None, map=None):
        asynchat.async_chat.__init__(self, sock, map)
        self.set_terminator(b'\r\n')
        self.buffer = b''

    def upgrade(self, **options):
        """Wrap the socket and shake hands; it blocks for the while."""
        self.ssl = ssl.wrap_socket(
            self.socket, do_handshake_on_connect=False, suppress_ragged_eofs=True, **options)
        while True:
            try:
                self.ssl.do_handshake()
                break
            except ssl.SSLError as err:
                if err.args[0] == ssl.SSL_ERROR_WANT_READ:
                    select.select([self.ssl], [], [], 20)
                elif err.args[0] == ssl.SSL_ERROR_WANT_WRITE:
                    select.select([], [self.ssl], [], 20)
                else:
                    raise
        self.set_socket(self.ssl)
        # It's necessary to replace these, as the usual ones know nothing of TLS
        self.recv = self._ssl_recv
        self.send = self._ssl_send

    def _ssl_recv(self, buffer_size):
        try:
            data = self.ssl.read(buffer_size)
            if not data:
                self.handle_close()
            return data
        except ssl.SSLError as why:
            if why.args[0] in (ssl.SSL_ERROR_WANT_READ, ssl.SSL_ERROR_WANT_WRITE):
                return b''
            self.handle_close()
            return b''
        except OSError as why:
            if why.errno in asyncore._DISCONNECTED:
                self.handle_close()
                return b''
            raise

    def _ssl_send(self, data):
        try:
            return self.ssl.write(data)
        except ssl.SSLError as why:
            if why.args[0] in (ssl.SSL_ERROR_WANT_READ, ssl.SSL_ERROR_WANT_WRITE):
                return 0
            raise

    def collect_incoming_data(self, data):
        self.buffer += data

    def found_terminator(self):
        line, self.buffer = self.buffer, b''
        self.got(line)


class Session(TLSChat):

    def __init__(self, server, sock):
        TLSChat.__init__(self, None, server.map)
        self.server = server
        sock.setblocking(False)
        self.set_socket(sock)
        self.connected = True
        self.upgrade(server_side=True, certfile=server.certfile, keyfile=server.keyfile)
        self.push(b'WELCOME\r\n')

    def got(self, line):
        if line == b'QUIT':
            self.close_when_done()
        else:
            self.push(b'%d bytes\r\n' % len(line))
            self.push_with_producer(asynchat.simple_producer(line.upper() + b'\r\n'))


class Server(asyncore.dispatcher):

    def __init__(self, map, certfile, keyfile):
        asyncore.dispatcher.__init__(self, map=map)
        self.map = map
        self.certfile = certfile
        self.keyfile = keyfile
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.bind(('127.0.0.1', 0))
        self.listen(5)

    def handle_accepted(self, sock, addr):
        self.close()
        Session(self, sock)


class Client(TLSChat):

    def __init__(self, address, ca_certs):
        TLSChat.__init__(self)
        self.ca_certs = ca_certs
        self.lines = [b'hello', b'x' * 100000, b'QUIT']
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.connect(address)

    def handle_connect(self):
        self.upgrade(cert_reqs=ssl.CERT_REQUIRED, ca_certs=self.ca_certs)
        print('connected, with', self.ssl.version()[:4])
        print('the certificate is for', self.ssl.getpeercert()['subjectAltName'])

    def got(self, line):
        print('<<', line if len(line) < 100 else '%d times %r' % (len(line), line[:1]))
        if not line.endswith(b'bytes'):
            line = self.lines.pop(0)
            print('>>', line if len(line) < 100 else '%d times %r' % (len(line), line[:1]))
            self.push(line + b'\r\n')

    def handle_close(self):
        print('closed')
        self.close()


def main(certfile, keyfile, ca_certs, other_ca_certs):
    map = {}
    server = Server(map, certfile, keyfile)
    thread = threading.Thread(target=asyncore.loop, kwargs={'map': map, 'timeout': 1})
    address = server.socket.getsockname()
    thread.start()
    Client(address, ca_certs)
    asyncore.loop(timeout=20)
    thread.join(20)
    print('server ended:', not thread.is_alive())

    # A certificate of somebody whom nobody knows.
    here, there = socket.socketpair()
    wrapped = ssl.wrap_socket(
        there, server_side=True, certfile=certfile, keyfile=keyfile,
        do_handshake_on_connect=False)
    thread = threading.Thread(target=shake_hands, args=(wrapped,))
    thread.start()
    try:
        ssl.wrap_socket(here, cert_reqs=ssl.CERT_REQUIRED, ca_certs=other_ca_certs)
    except ssl.SSLError as why:
        print('refused:', why.reason)
    here.close()
    thread.join(20)
    wrapped.close()


def shake_hands(wrapped):
    try:
        wrapped.do_handshake()
        wrapped.read(1)
    except OSError:
        pass


if __name__ == '__main__':
    main(*sys.argv[1:])

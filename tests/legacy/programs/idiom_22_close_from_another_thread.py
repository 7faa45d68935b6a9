#!/usr/bin/env python3
"""
A server for tests: its loop runs in a thread, stop() closes it from the main
thread and waits for the thread.
"""

import asynchat
import asyncore
import socket
import threading
import time


class LineChannel(asynchat.async_chat):

    def __init__(self, server, sock):
        asynchat.async_chat.__init__(self, sock, server.map)
        self.server = server
        self.set_terminator(b'\r\n')
        self.line = b''
        server.channels.append(self)
        self.push(b'220 ready\r\n')

    def collect_incoming_data(self, data):
        self.line += data

    def found_terminator(self):
        line, self.line = self.line, b''
        self.server.received.append(line)
        self.push(b'250 ' + line + b'\r\n')

    def handle_close(self):
        self.close()
        self.server.gone.set()


class TestServer(asyncore.dispatcher):

    def __init__(self, map=None):
        self.map = map
        asyncore.dispatcher.__init__(self, map=map)
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.set_reuse_addr()
        self.bind(('127.0.0.1', 0))
        self.address = self.socket.getsockname()
        self.listen(5)
        self.received = []
        self.gone = threading.Event()
        self.channels = []

    def handle_accepted(self, sock, addr):
        LineChannel(self, sock)

    def start(self):
        """Run it in a thread, as the fixtures do."""
        self.thread = threading.Thread(
            target=asyncore.loop,
            kwargs={'timeout': 1, 'use_poll': True, 'map': self.map})
        self.thread.start()

    def stop(self):
        started = time.monotonic()
        self.close()
        # Now it is safe to wait for the thread
        self.thread.join(20)
        took = time.monotonic() - started
        return 'stopped: %s, soon: %s' % (not self.thread.is_alive(), took < 5)


def main():
    for title, map in (('global map', None), ('map of its own', {})):
        print('--- %s, nobody came' % title)
        server = TestServer(map)
        server.start()
        print(server.stop())
        try:
            socket.create_connection(server.address, 5)
        except ConnectionRefusedError:
            print('nobody listens any more')

        print('--- %s, a client came and went' % title)
        server = TestServer(map)
        server.start()
        client = socket.create_connection(server.address, 20)
        answers = client.makefile('rb')
        print(answers.readline())
        for line in (b'HELO', b'NOOP'):
            client.sendall(line + b'\r\n')
            print(answers.readline())
        answers.close()
        client.close()
        print('seen that it went:', server.gone.wait(20))
        print(server.stop())
        print('received:', server.received)

        print('--- %s, a client is still there' % title)
        server = TestServer(map)
        server.start()
        client = socket.create_connection(server.address, 20)
        client.settimeout(20)
        answers = client.makefile('rb')
        print(answers.readline())
        for channel in server.channels:
            channel.close()
        print('the client sees the end:', answers.read())
        print(server.stop())
        answers.close()
        client.close()
        print('left:', len(asyncore.socket_map), len(map or {}))

    print('--- again and again')
    threads = threading.active_count()
    stops = []
    for _ in range(3):
        server = TestServer({})
        server.start()
        stops.append(server.stop())
    print(set(stops), 'threads:', threading.active_count() - threads)


if __name__ == '__main__':
    main()

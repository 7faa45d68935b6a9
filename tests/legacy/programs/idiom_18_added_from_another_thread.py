#!/usr/bin/env python3
"""
Connections are made by the main thread and by a pool of threads, while another
thread is in the loop that shall serve them.
"""

import asynchat
import asyncore
import socket
import threading

COUNT = 100


class Connection(asynchat.async_chat):

    def __init__(self, sock, pool, map):
        self.pool = pool
        self.line = b''
        self.set_terminator(b'\n')
        asynchat.async_chat.__init__(self, sock, map)

    def collect_incoming_data(self, data):
        self.line += data

    def found_terminator(self):
        line, self.line = self.line, b''
        self.pool.threads.add(threading.current_thread().name)
        self.push(b'got ' + line + b'\n')

    def handle_close(self):
        self.close()
        with self.pool.condition:
            self.pool.closed += 1
            self.pool.condition.notify_all()


class Keeper(asyncore.dispatcher):
    """Keeps the loop going while there are no connections; ends by a byte."""

    def __init__(self, map):
        here, self.there = socket.socketpair()
        asyncore.dispatcher.__init__(self, here, map)

    def writable(self):
        return False

    def handle_read(self):
        self.recv(10)
        self.close()

    def stop(self):
        self.there.sendall(b'.')


class Pool:

    def __init__(self, map):
        self.map = map
        self.condition = threading.Condition()
        self.closed = 0
        self.threads = set()
        self.answers = []

    def talk(self, number):
        """Make a connection for the loop, and talk to it from here."""
        here, there = socket.socketpair()
        there.settimeout(20)
        Connection(here, self, self.map)
        there.sendall(b'number %d\n' % number)
        answer = there.recv(100)
        there.close()
        with self.condition:
            self.answers.append(answer)

    def wait(self, count):
        with self.condition:
            return self.condition.wait_for(lambda: self.closed == count, 20)


def serve(map):
    pool = Pool(map)
    keeper = Keeper(map)
    thread = threading.Thread(
        target=asyncore.loop, name='loop', kwargs={'timeout': 0.01, 'map': map})
    thread.start()

    for number in range(COUNT):
        pool.talk(number)
    print('from the main thread:', pool.wait(COUNT), len(pool.answers))

    def many(first):
        for number in range(first, first + COUNT):
            pool.talk(number)

    threads = [threading.Thread(target=many, args=(n * COUNT,)) for n in range(1, 5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    print('and from four others:', pool.wait(5 * COUNT), len(pool.answers))
    expected = [b'got number %d\n' % number for number in range(5 * COUNT)]
    print('each was answered, once:', sorted(pool.answers) == sorted(expected))
    print('handlers ran in:', pool.threads)
    keeper.stop()
    thread.join(20)
    keeper.there.close()
    print('the loop ended:', not thread.is_alive(), len(map), len(asyncore.socket_map))


def main():
    print('--- a map of its own')
    serve({})
    print('--- the global map')
    serve(asyncore.socket_map)


if __name__ == '__main__':
    main()

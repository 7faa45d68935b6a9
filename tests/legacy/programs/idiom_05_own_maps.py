#!/usr/bin/env python3
"""
Servers with maps of their own, each looped over in a thread of its own, and one
more in the main thread; the global map has nothing to do with it.
"""

import asynchat
import asyncore
import socket
import threading


class Channel(asynchat.async_chat):

    def __init__(self, server, sock, addr, map):
        asynchat.async_chat.__init__(self, sock, map)
        self.server = server
        self.set_terminator(b'\n')
        self.received = []

    def collect_incoming_data(self, data):
        self.received.append(data)

    def found_terminator(self):
        line = b''.join(self.received)
        self.received = []
        self.server.threads.add(threading.current_thread().name)
        if line == b'stop':
            self.server.close()
            self.close_when_done()
            return
        self.push(self.server.name.encode() + b' ' + line + b'\n')
        self.server.count += 1


class Server(asyncore.dispatcher):

    def __init__(self, name, map):
        asyncore.dispatcher.__init__(self, map=map)
        self.name = name
        self.map = map
        self.count = 0
        self.threads = set()
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.bind(('127.0.0.1', 0))
        self.listen(5)
        self.port = self.socket.getsockname()[1]

    def handle_accepted(self, sock, addr):
        Channel(self, sock, addr, self.map)

    def run(self):
        asyncore.loop(timeout=5, map=self.map)


def talk(port, lines):
    """A client that blocks."""
    sock = socket.create_connection(('127.0.0.1', port), 20)
    answers = sock.makefile('rb')
    result = []
    for line in lines:
        sock.sendall(line + b'\n')
        result.append(answers.readline())
    sock.sendall(b'stop\n')
    result.append(answers.read())
    answers.close()
    sock.close()
    return result


def main():
    # Somebody else's channel, in the global map: nobody shall look at it.
    here, there = socket.socketpair()
    bystander = asyncore.dispatcher(here)
    there.sendall(b'nobody reads this')

    asyncore.loop(map={})
    print('a loop over an empty map returns')

    maps = {name: {} for name in ('north', 'south', 'main')}
    servers = {name: Server(name, maps[name]) for name in maps}
    print('one in each:', [len(maps[name]) for name in sorted(maps)])
    print('in the global map:', len(asyncore.socket_map))

    threads = [
        threading.Thread(target=servers[name].run, name=name + '-thread')
        for name in ('north', 'south')
    ]
    answers = {}

    def ask_main():
        answers['main'] = talk(servers['main'].port, [b'x%d' % n for n in range(100)])

    threads.append(threading.Thread(target=ask_main, name='client'))
    for thread in threads:
        thread.start()
    asyncore.loop(timeout=5, map=maps['main'])
    print('the loop of the main thread is over')

    for name in ('north', 'south'):
        answers[name] = talk(servers[name].port, [b'y%d' % n for n in range(100)])
    for thread in threads:
        thread.join(20)
        print(thread.name, 'ended:', not thread.is_alive())

    for name in sorted(servers):
        server = servers[name]
        print(
            name, server.count, sorted(server.threads), len(maps[name]),
            answers[name][0], answers[name][99], answers[name][100])
    print('in the global map:', len(asyncore.socket_map), bystander in asyncore.socket_map.values())
    bystander.close()
    there.close()


if __name__ == '__main__':
    main()

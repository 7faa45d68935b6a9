#!/usr/bin/env python3
"""
A chat client: the loop runs in a thread, the main thread reads what the user
types (here it is a list) and pushes it.
"""

import asynchat
import asyncore
import queue
import socket
import threading
import time


class ChatClient(asynchat.async_chat):

    def __init__(self, address, name):
        asynchat.async_chat.__init__(self)
        self.set_terminator(b'\r\n')
        self.buffer = []
        self.inbox = queue.Queue()
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.connect(address)
        self.name = name

    def handle_connect(self):
        self.push(self.name.encode() + b'\r\n')

    def collect_incoming_data(self, data):
        self.buffer.append(data)

    def found_terminator(self):
        line = b''.join(self.buffer)
        self.buffer = []
        self.inbox.put(line)

    def handle_close(self):
        self.inbox.put(b'(closed)')
        self.close()

    def say(self, text):
        self.push(text + b'\r\n')


class Server(threading.Thread):
    """Blocks, in a thread of its own; says how much it got."""

    def __init__(self):
        threading.Thread.__init__(self)
        self.sock = socket.socket()
        self.sock.bind(('127.0.0.1', 0))
        self.sock.listen(1)
        self.address = self.sock.getsockname()

    def run(self):
        conn, addr = self.sock.accept()
        self.sock.close()
        conn.settimeout(25)
        lines = conn.makefile('rb')
        name = lines.readline().strip()
        conn.sendall(b'hello ' + name + b'\r\n')
        for line in lines:
            line = line.strip()
            if line == b'/quit':
                break
            if len(line) > 100:
                right = line == b''.join(b'%07d ' % n for n in range(len(line) // 8 + 1))[:len(line)]
                line = b'%d bytes, %s' % (len(line), b'right' if right else b'WRONG')
            conn.sendall(name + b' said ' + line + b'\r\n')
        lines.close()
        conn.close()


def main():
    server = Server()
    server.start()
    client = ChatClient(server.address, 'robin')
    comm = threading.Thread(target=asyncore.loop, kwargs={'timeout': 0.5})
    comm.daemon = True
    comm.start()

    print(client.inbox.get(timeout=20))
    for typed in (b'good morning', b'is anybody there?', b'well then'):
        client.say(typed)
        print(client.inbox.get(timeout=20))

    # Alone on the line, a line goes out before push() returns.
    slowest = 0
    for number in range(20):
        started = time.monotonic()
        client.say(b'line %d' % number)
        client.inbox.get(timeout=20)
        slowest = max(slowest, time.monotonic() - started)
    print('answered at once:', slowest < 5)

    for size in (70000, 3000000):
        text = b''.join(b'%07d ' % n for n in range(size // 8))[:size - 1]
        client.say(text)
        print(client.inbox.get(timeout=25))
    client.say(b'/quit')
    print(client.inbox.get(timeout=20))
    comm.join(20)
    server.join(20)
    print('ended:', not comm.is_alive(), not server.is_alive(), len(asyncore.socket_map))


if __name__ == '__main__':
    main()

#!/usr/bin/env python3
"""
A chat room whose loop runs in a thread, so that the main thread is free for
other things, say a window. Here it plays the users.
"""

import asynchat
import asyncore
import signal
import socket
import threading


class ChatSession(asynchat.async_chat):

    def __init__(self, room, sock):
        asynchat.async_chat.__init__(self, sock)
        self.room = room
        self.set_terminator(b'\r\n')
        self.data = []
        self.name = None
        self.push(b'Welcome, who are you?\r\n')

    def collect_incoming_data(self, data):
        self.data.append(data.decode('utf-8'))

    def found_terminator(self):
        line = ''.join(self.data)
        self.data = []
        self.room.threads.add(threading.current_thread().name)
        if self.name is None:
            self.name = line
            self.room.enter(self)
        elif line == '/quit':
            self.room.leave(self)
            self.close_when_done()
        elif line == '/shutdown':
            self.room.shutdown()
        else:
            self.room.broadcast('%s: %s' % (self.name, line))

    def handle_close(self):
        self.room.leave(self)
        self.close()


class ChatRoom(asyncore.dispatcher):

    def __init__(self):
        asyncore.dispatcher.__init__(self)
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.set_reuse_addr()
        self.bind(('127.0.0.1', 0))
        self.listen(5)
        self.address = self.socket.getsockname()
        self.sessions = []
        self.threads = set()

    def handle_accept(self):
        conn, addr = self.accept()
        ChatSession(self, conn)

    def broadcast(self, line):
        for session in self.sessions:
            session.push(line.encode('utf-8') + b'\r\n')

    def enter(self, session):
        self.sessions.append(session)
        self.broadcast('* %s entered' % session.name)

    def leave(self, session):
        if session in self.sessions:
            self.sessions.remove(session)
            self.broadcast('* %s left' % session.name)

    def shutdown(self):
        self.broadcast('* good night')
        for session in self.sessions:
            session.close_when_done()
        self.close()


class User:
    """Sits in the main thread, and blocks."""

    def __init__(self, address, name):
        self.name = name
        self.sock = socket.create_connection(address, 20)
        self.file = self.sock.makefile('rw', encoding='utf-8', newline='')
        self.hear()
        self.say(name)

    def say(self, line):
        self.file.write(line + '\r\n')
        self.file.flush()

    def hear(self):
        print('%-6s hears %r' % (self.name, self.file.readline()))

    def leave(self):
        print('%-6s at the end %r' % (self.name, self.file.read()))
        self.file.close()
        self.sock.close()


def evening(number):
    print('--- evening', number)
    room = ChatRoom()
    loop_thread = threading.Thread(target=asyncore.loop, name='loop %d' % number)
    loop_thread.daemon = True
    loop_thread.start()

    ann = User(room.address, 'ann')
    ann.hear()
    bob = User(room.address, 'bob')
    for user in (ann, bob):
        user.hear()
    carl = User(room.address, 'carl')
    for user in (ann, bob, carl):
        user.hear()
    bob.say('good evening')
    for user in (ann, bob, carl):
        user.hear()
    carl.say('/quit')
    for user in (ann, bob):
        user.hear()
    carl.leave()
    ann.say('/shutdown')
    for user in (ann, bob):
        user.hear()
        user.leave()

    loop_thread.join(20)
    print('the loop ended:', not loop_thread.is_alive())
    print('handlers ran in:', sorted(room.threads))
    print('left in the map:', len(asyncore.socket_map))


def main():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for number in (1, 2):
        evening(number)
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    print('signal handlers as before:', before == after)


if __name__ == '__main__':
    main()

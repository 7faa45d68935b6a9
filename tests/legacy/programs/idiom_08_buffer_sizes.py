#!/usr/bin/env python3
"""Sizes of buffers, as attributes of classes and of one object."""

import asynchat
import asyncore
import socket


class Base(asynchat.async_chat):
    """Keeps books of what it asks from its socket."""

    def __init__(self, sock):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'.')
        self.asked = set()
        self.got = []
        self.sent = []
        self.message = b''
        self.messages = []

    def recv(self, buffer_size):
        self.asked.add(buffer_size)
        data = asynchat.async_chat.recv(self, buffer_size)
        self.got.append(len(data))
        return data

    def send(self, data):
        self.sent.append(len(data))
        return asynchat.async_chat.send(self, data)

    def collect_incoming_data(self, data):
        self.message += data

    def found_terminator(self):
        self.messages.append(self.message)
        self.message = b''

    def handle_close(self):
        self.close()


class Small(Base):
    ac_in_buffer_size = 10
    ac_out_buffer_size = 7


class Large(Base):
    ac_in_buffer_size = 200000
    ac_out_buffer_size = 100000


class Producer:

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    def more(self):
        if self.pieces:
            return self.pieces.pop(0)
        return b''


def report(title, channel):
    print(title)
    print('  asks for', sorted(channel.asked), '- no more than it asked for:',
          max(channel.got) <= max(channel.asked))
    print('  sends at most', max(channel.sent), 'at once, in all', sum(channel.sent))
    print('  messages', [len(message) for message in channel.messages])


def talk(one, other, data, producer):
    one.push(data)
    one.push_with_producer(producer)
    one.push(b'.')
    other.push(b'short.')
    one.close_when_done()
    asyncore.loop(timeout=5)


def main():
    print('defaults:', asynchat.async_chat.ac_in_buffer_size, asynchat.async_chat.ac_out_buffer_size)

    here, there = socket.socketpair()
    small, other = Small(here), Small(there)
    talk(small, other, b'a message of 24 bytes...'.replace(b'.', b'!'), Producer(b'x' * 30, b'y' * 3))
    report('small', small)
    report('small, the other side', other)
    print('  it is', other.messages)

    here, there = socket.socketpair()
    large, other = Large(here), Large(there)
    talk(large, other, b'm' * 1000000, Producer(b'n' * 500000, b'o' * 3))
    report('large, the other side', other)
    print('  the large one sends at most 100000 at once:', max(large.sent) <= 100000)
    print('  the message is right:', other.messages == [b'm' * 1000000 + b'n' * 500000 + b'ooo'])

    here, there = socket.socketpair()
    one, other = Small(here), Small(there)
    one.ac_out_buffer_size = 3
    other.ac_in_buffer_size = 2
    talk(one, other, b'abcdefgh', Producer(b'ijklm'))
    report('set on the objects', one)
    report('set on the objects, the other side', other)
    print('  it is', other.messages)


if __name__ == '__main__':
    main()

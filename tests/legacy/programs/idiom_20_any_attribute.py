#!/usr/bin/env python3
"""
Handlers with attributes and methods of all the names that a program may have a
use for, and one that is a thread besides.
"""

import asynchat
import asyncore
import socket
import threading

# What a dispatcher and an async_chat have, or had at some time.
KNOWN = set("""
    ac_in_buffer ac_in_buffer_size ac_out_buffer ac_out_buffer_size accept accepting add_channel
    addr bind close close_when_done closing collect_incoming_data connect connected connecting
    create_socket debug del_channel discard_buffers encoding found_terminator get_terminator
    handle_accept handle_accepted handle_close handle_connect handle_connect_event handle_error
    handle_expt handle_expt_event handle_read handle_read_event handle_write handle_write_event
    ignore_log_types initiate_send listen log log_info push push_with_producer readable recv
    refill_buffer send set_reuse_addr set_socket set_terminator use_encoding writable
    family_and_type incoming producer_fifo socket terminator
""".split())

# What our programs use on their handlers.
NAMES = """
    abort account active address adapter age alive args arguments authority batch body buf buffer
    buffers bytes_in bytes_out cache call callback callbacks channel channels children client
    clients clock code collect command commands config conn connection connections context core
    count counter credentials current cwd data db deadline delegate dispatcher doRead doWrite
    connectionLost logPrefix done downstream draining encoder entry epoll error errors event events
    expect factory fd feed file fileno filter finished flags flush frame framer framing generation
    getHost getPeer greeting group handler handlers header headers host id idle idle_timeout index
    info inp input interest interval item items key keys kind last last_active lifecycle limit line
    lines lock logger loop loseConnection main map mask max_message_length message messages method
    mode name names next nick notify number offset on_close out out_buffer outbox output owner
    parent parser partial password paused paused_because peer pending pid pipe policy poll poller
    port position prefix priority process producer producers protocol proxy queue quit raw reactor
    ready real_socket reason registered remaining remote request requests reset response rest result
    resume resumeProducing pauseProducing stopProducing role room running scheduler secret selector
    sequence server service session set sets sock source ssl started starting state stats status
    stop stopped stopping store stream strict suspended tag target task thread tick time timeout
    timer timers token total transport type unread upstream uri user username value version
    wait waiting waker watch watched weight when window worker wrapper write writer written
""".split()


class Everything(asynchat.async_chat):
    """Has all these names on the object, set before the base class has its turn."""

    def __init__(self, sock):
        for name in NAMES:
            setattr(self, name, 'mine: ' + name)
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\n')

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        line = self._get_data()
        self.push(b'echo ' + line + b'\n')
        self.push_with_producer(asynchat.simple_producer(b'and again ' + line + b'\n'))
        if line == b'bye':
            self.close_when_done()

    def changed(self):
        return [name for name in NAMES if getattr(self, name, None) != 'mine: ' + name]


def method(name):
    def called(self, *args, **kwargs):
        raise AssertionError('%s() is not yours to call' % name)
    return called


# The same names as methods that nobody else may call.
Methods = type('Methods', (Everything,), {
    **{name: method(name) for name in NAMES},
    '__init__': lambda self, sock: (
        asynchat.async_chat.__init__(self, sock), self.set_terminator(b'\n'), None)[-1],
    'changed': lambda self: [
        name for name in NAMES if getattr(self, name).__name__ != 'called'],
})


class Threaded(asynchat.async_chat, threading.Thread):
    """A channel, and the thread that loops over it."""

    def __init__(self, sock, name):
        self.__map = {}
        threading.Thread.__init__(self, name=name)
        asynchat.async_chat.__init__(self, sock, self.__map)
        self.set_terminator(b'\n')
        self.daemon = True

    def run(self):
        asyncore.loop(timeout=1, map=self.__map)

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        line = self._get_data()
        self.push(line + b' in ' + threading.current_thread().name.encode() + b'\n')


class Slotted(asyncore.dispatcher):
    __slots__ = ('note',)

    def handle_read(self):
        self.note = self.recv(100)
        self.close()


class Equal(asynchat.async_chat):
    """All are equal, none has a hash, and none is true."""

    __hash__ = None

    def __init__(self, sock, seen):
        asynchat.async_chat.__init__(self, sock)
        self.set_terminator(b'\n')
        self.seen = seen

    def __eq__(self, other):
        return True

    def __len__(self):
        return 0

    def collect_incoming_data(self, data):
        self.seen.append(data)

    def found_terminator(self):
        self.close_when_done()


def main():
    for base in (asyncore.dispatcher, asyncore.dispatcher_with_send, asyncore.file_dispatcher,
                 asynchat.async_chat):
        # What the class only hands on from its socket, it does not have.
        names = {name for name in dir(base) if not name.startswith('_') and hasattr(base, name)}
        print(base.__name__, 'has names of no old version:', sorted(names - KNOWN - {'set_file'}))

    for handler_class in (Everything, Methods):
        here, there = socket.socketpair()
        there.settimeout(20)
        handler = handler_class(here)
        there.sendall(b'one\nbye\n')
        asyncore.loop(timeout=20)
        answers = there.makefile('rb')
        print(handler_class.__name__, answers.readlines())
        answers.close()
        there.close()
        print('  changed:', handler.changed(), 'map:', len(asyncore.socket_map))
        public = {name for name in vars(handler) if not name.startswith('_')}
        print('  added:', sorted(public - set(NAMES) - KNOWN))

    here, there = socket.socketpair()
    there.settimeout(20)
    threaded = Threaded(here, 'a thread of its own')
    threaded.start()
    answers = there.makefile('rb')
    there.sendall(b'hello\n')
    print('Threaded', answers.readline(), threaded.name, threaded.connected)
    answers.close()
    there.close()
    threaded.join(20)
    print('  ended:', not threaded.is_alive(), threaded.connected)

    here, there = socket.socketpair()
    slotted = Slotted(here)
    there.sendall(b'slots')
    asyncore.loop(timeout=20)
    there.close()
    print('Slotted', slotted.note)

    seen = []
    pairs = [socket.socketpair() for _ in range(3)]
    channels = [Equal(here, seen) for here, there in pairs]
    for number, (here, there) in enumerate(pairs):
        there.sendall(b'%d\n' % number)
    asyncore.loop(timeout=20)
    print('Equal', sorted(seen), [each.connected for each in channels])
    for here, there in pairs:
        there.close()
    print('left in the map:', len(asyncore.socket_map))


if __name__ == '__main__':
    main()

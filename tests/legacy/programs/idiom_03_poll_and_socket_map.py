#!/usr/bin/env python3
"""
A manager and an agent over UDP, with a dispatcher that owns the transports and
calls asyncore.poll itself.
"""

import asyncore
import socket
from asyncore import loop, poll, poll2, socket_map


class DgramTransport(asyncore.dispatcher):
    """A datagram socket with a queue of what is to go out."""

    def __init__(self, sock_map=None):
        asyncore.dispatcher.__init__(self)
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 131070)
        self.out_queue = []
        self._cb_fun = None
        self.set_socket(sock, sock_map)

    def open(self, iface):
        self.socket.bind(iface)
        return self.socket.getsockname()

    def register_cb_fun(self, cb_fun):
        self._cb_fun = cb_fun

    def send_message(self, message, address):
        self.out_queue.append((message, address))

    # asyncore API

    def handle_connect(self):
        pass

    def readable(self):
        return 1

    def writable(self):
        return self.out_queue

    def handle_write(self):
        message, address = self.out_queue.pop(0)
        self.socket.sendto(message, address)

    def handle_read(self):
        message, address = self.socket.recvfrom(65535)
        self._cb_fun(self, message, address)

    def handle_close(self):
        print('unexpected close')


class TransportDispatcher:

    def __init__(self):
        self.transports = {}
        self.jobs = {}
        self.timer_ticks = 0
        self.__sock_map = socket_map  # the global one

    def register_transport(self, name, transport):
        self.transports[name] = transport

    def job_started(self, job):
        self.jobs[job] = self.jobs.get(job, 0) + 1

    def job_finished(self, job):
        self.jobs[job] -= 1
        if not self.jobs[job]:
            del self.jobs[job]

    def run_dispatcher(self, poll_function, timeout=0.1):
        while self.jobs:
            poll_function(timeout, self.__sock_map)
            self.timer_ticks += 1

    def close_dispatcher(self):
        for name in sorted(self.transports):
            self.transports[name].close()
        self.transports.clear()


OIDS = {b'1.3.6.1.2.1.1.1.0': b'a printer', b'1.3.6.1.2.1.1.5.0': b'lp0'}


def agent(transport, message, address):
    number, oid = message.split()
    transport.send_message(number + b' ' + OIDS.get(oid, b'noSuchName'), address)


def main():
    print('the map is the module\'s:', socket_map is asyncore.socket_map, len(socket_map))
    asyncore.poll(0.1)
    print('a poll of nothing returns')

    dispatcher = TransportDispatcher()

    def manager(transport, message, address):
        number, value = message.split(b' ', 1)
        print('answer', number.decode(), 'is', value.decode())
        dispatcher.job_finished(number)

    agents = DgramTransport()
    agent_address = agents.open(('127.0.0.1', 0))
    agents.register_cb_fun(agent)
    dispatcher.register_transport('agent', agents)
    managers = DgramTransport()
    managers.open(('127.0.0.1', 0))
    managers.register_cb_fun(manager)
    dispatcher.register_transport('manager', managers)
    print('transports in the map:', sorted(type(each).__name__ for each in socket_map.values()))
    print('by their numbers:', socket_map[agents.socket.fileno()] is agents)

    functions = [poll, poll2, asyncore.poll3, lambda timeout, map: asyncore.poll(timeout)]
    questions = [b'1.3.6.1.2.1.1.1.0', b'1.3.6.1.2.1.1.5.0', b'1.3.6.1.2.1.1.9.0', b'']
    for number, (function, oid) in enumerate(zip(functions, questions), 1):
        job = str(number).encode()
        dispatcher.job_started(job)
        managers.send_message(job + b' ' + (oid or b'1.1'), agent_address)
        dispatcher.run_dispatcher(function)
    print('ticks:', dispatcher.timer_ticks >= 8)

    # A poll that has nothing to report comes back after its timeout.
    asyncore.poll(0.05)
    asyncore.poll2(0.05)
    if asyncore.socket_map:
        print('still', len(asyncore.socket_map), 'in the map')
    dispatcher.close_dispatcher()
    if not asyncore.socket_map:
        print('none in the map')
    loop()
    print('still the same map:', socket_map is asyncore.socket_map)


if __name__ == '__main__':
    main()

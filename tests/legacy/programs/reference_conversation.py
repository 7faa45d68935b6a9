#!/usr/bin/env python3
"""ECHO: a server, its handler and a client, all in one loop."""

import asynchat
import asyncore
import socket

MESSAGE = bytes(range(256))[:166]


class EchoServer(asyncore.dispatcher):
    """Accepts one client, and hands it to an EchoHandler."""

    def __init__(self, address):
        asyncore.dispatcher.__init__(self)
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.set_reuse_addr()
        self.bind(address)
        self.address = self.socket.getsockname()
        self.listen(1)
        self.handler = None

    def handle_accept(self):
        client_info = self.accept()
        if client_info is None:
            return
        self.handler = EchoHandler(sock=client_info[0])
        # We only want one client, so stop listening.
        self.handle_close()

    def handle_close(self):
        self.close()


class EchoHandler(asynchat.async_chat):
    """Reads "ECHO <length>\\n" and so many bytes, and sends them back."""

    ac_in_buffer_size = 128
    ac_out_buffer_size = 128

    def __init__(self, sock):
        self.received_data = []
        self.commands = []
        self.bodies = []
        self.events = []
        asynchat.async_chat.__init__(self, sock)
        self.process_data = self._process_command
        self.set_terminator(b'\n')

    def collect_incoming_data(self, data):
        self.received_data.append(data)

    def found_terminator(self):
        self.process_data()

    def _process_command(self):
        """We have the full ECHO command"""
        command = b''.join(self.received_data)
        self.commands.append(command)
        command_verb, command_arg = command.strip().split(b' ')
        expected_data_len = int(command_arg)
        self.set_terminator(expected_data_len)
        self.process_data = self._process_message
        self.received_data = []

    def _process_message(self):
        """We have read the entire message."""
        to_echo = b''.join(self.received_data)
        self.bodies.append(to_echo)
        self.push(to_echo)
        # Disconnect after sending the entire response
        # since we only want to do one thing at a time
        self.close_when_done()

    def handle_close(self):
        self.events.append('closed')
        asynchat.async_chat.handle_close(self)


class EchoProducer(asynchat.simple_producer):
    """Notes what it is asked for."""

    def __init__(self, data, buffer_size):
        asynchat.simple_producer.__init__(self, data, buffer_size)
        self.pieces = []

    def more(self):
        response = asynchat.simple_producer.more(self)
        self.pieces.append(len(response))
        return response


class EchoClient(asynchat.async_chat):
    """Sends the message, and checks what comes back."""

    # Artificially small, to see the parts
    ac_in_buffer_size = 64
    ac_out_buffer_size = 64

    def __init__(self, address, message):
        self.message = message
        self.received_data = []
        self.events = []
        self.producer = EchoProducer(message, buffer_size=64)
        asynchat.async_chat.__init__(self)
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.connect(address)

    def handle_connect(self):
        self.events.append('connected')
        self.push(b'ECHO %d\n' % len(self.message))
        self.push_with_producer(self.producer)
        # The data comes back as it was sent
        self.set_terminator(len(self.message))

    def collect_incoming_data(self, data):
        self.received_data.append(data)

    def found_terminator(self):
        self.events.append('got all')

    def handle_close(self):
        self.events.append('closed')
        asynchat.async_chat.handle_close(self)


if __name__ == '__main__':
    server = EchoServer(('127.0.0.1', 0))
    client = EchoClient(server.address, message=MESSAGE)

    asyncore.loop()

    received = b''.join(client.received_data)
    print('server: commands', server.handler.commands)
    print('server: bodies of', [len(body) for body in server.handler.bodies], 'bytes')
    print('server: the body is what was sent:', server.handler.bodies == [MESSAGE])
    print('server:', ', '.join(server.handler.events))
    print('client:', ', '.join(client.events))
    print('client: pieces of the producer', client.producer.pieces)
    print('client: received', len(received), 'bytes')
    for number, (sent, got) in enumerate(zip(MESSAGE, received)):
        if sent != got:
            print('client: byte', number, 'is', got, 'but was', sent)
    print('client: every byte is right:', received == MESSAGE)
    print('left in the map:', len(asyncore.socket_map))

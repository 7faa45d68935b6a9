#!/usr/bin/env python3
"""
Worker threads hand their results to the thread of the loop: they write a byte to
a pipe that the loop watches.
"""

import asynchat
import asyncore
import os
import queue
import socket
import threading
import time


class Trigger(asyncore.file_dispatcher):
    """Wake up a call to select() running in the main thread."""

    def __init__(self):
        r, self.trigger = os.pipe()
        asyncore.file_dispatcher.__init__(self, r)
        os.close(r)
        self.lock = threading.Lock()
        self.thunks = []
        self.wakings = 0

    def readable(self):
        return 1

    def writable(self):
        return 0

    def handle_connect(self):
        pass

    def handle_close(self):
        self.close()

    def close(self):
        if self.trigger is not None:
            os.close(self.trigger)
            self.trigger = None
            asyncore.file_dispatcher.close(self)

    def pull_trigger(self, thunk=None):
        if thunk:
            with self.lock:
                self.thunks.append(thunk)
        os.write(self.trigger, b'x')

    def handle_read(self):
        self.recv(8192)
        self.wakings += 1
        with self.lock:
            thunks, self.thunks = self.thunks, []
        for thunk in thunks:
            try:
                thunk()
            except Exception:
                nil, t, v, tbinfo = asyncore.compact_traceback()
                print('exception in trigger thunk: (%s:%s)' % (t.__name__, v))


class Server(asyncore.dispatcher):

    def __init__(self, trigger, jobs):
        asyncore.dispatcher.__init__(self)
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.bind(('127.0.0.1', 0))
        self.listen(5)
        self.trigger = trigger
        self.jobs = jobs

    def handle_accepted(self, sock, addr):
        Session(sock, self)


class Session(asynchat.async_chat):
    """Has its requests answered by the threads."""

    def __init__(self, sock, server):
        asynchat.async_chat.__init__(self, sock)
        self.server = server
        self.set_terminator(b'\n')
        self.request = b''

    def collect_incoming_data(self, data):
        self.request += data

    def found_terminator(self):
        request, self.request = self.request, b''
        self.server.jobs.put((self, request))

    def answer(self, text):
        main = threading.current_thread() is threading.main_thread()
        self.push(text + (b' (main thread)' if main else b' (OTHER THREAD)') + b'\n')


def worker(jobs, trigger):
    while True:
        session, request = jobs.get()
        if session is None:
            break
        if request == b'bad':
            def thunk():
                raise ValueError('bad job')
            trigger.pull_trigger(thunk)
            request = b'after bad'
        text = b'%s = %d' % (request, sum(map(int, request.split(b'+')))) \
            if b'+' in request else request
        trigger.pull_trigger(lambda session=session, text=text: session.answer(text))


def client(port, results, trigger, stop):
    sock = socket.create_connection(('127.0.0.1', port), 20)
    answers = sock.makefile('rb')
    slowest = 0
    for request in [b'1+2', b'40+2', b'bad'] + [b'%d+1' % n for n in range(50)]:
        asked = time.monotonic()
        sock.sendall(request + b'\n')
        results.append(answers.readline().decode().strip())
        slowest = max(slowest, time.monotonic() - asked)
    results.append('each was answered at once: %s' % (slowest < 5))
    answers.close()
    sock.close()
    trigger.pull_trigger(stop)


def main():
    jobs = queue.Queue()
    trigger = Trigger()
    server = Server(trigger, jobs)
    workers = [threading.Thread(target=worker, args=(jobs, trigger)) for _ in range(3)]
    for each in workers:
        each.start()

    def stop():
        server.close()
        for _ in workers:
            jobs.put((None, None))
        trigger.close()

    results = []
    user = threading.Thread(
        target=client, args=(server.socket.getsockname()[1], results, trigger, stop))
    user.start()
    # Nothing but the pipe ends the waiting of a loop with so long a timeout.
    asyncore.loop(timeout=60)
    user.join(20)
    for each in workers:
        each.join(20)
    for line in results[:4] + results[-3:]:
        print(line)
    print('answers:', len(results) - 1, '- woken up:', trigger.wakings > 10)
    print('left in the map:', len(asyncore.socket_map))


if __name__ == '__main__':
    main()

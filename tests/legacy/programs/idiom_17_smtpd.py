#!/usr/bin/env python3
"""
The mail server of a test fixture: smtpd.SMTPServer with process_message, its
loop in a thread, mails by smtplib.
"""

import asyncore
import smtplib
import smtpd
import threading
from email.mime.text import MIMEText


class FakeMailServer(smtpd.SMTPServer):
    """Keeps what it is sent."""

    def __init__(self):
        smtpd.SMTPServer.__init__(self, ('127.0.0.1', 0), None)
        self.mails = []
        self.threads = set()
        self.port = self.socket.getsockname()[1]

    def process_message(self, peer, mailfrom, rcpttos, data, **kwargs):
        self.threads.add(threading.current_thread().name)
        self.mails.append((peer[0], mailfrom, rcpttos, data, sorted(kwargs)))
        if b'X-Refuse' in data:
            return '550 we do not like it'


class MailFixture:

    def start(self):
        self.server = FakeMailServer()
        self.thread = threading.Thread(
            target=asyncore.loop, kwargs={'timeout': 0.5}, name='mail loop')
        self.thread.daemon = True
        self.thread.start()

    def stop(self):
        self.server.close()
        self.thread.join(20)
        return not self.thread.is_alive()


def mail(number, body):
    message = MIMEText(body)
    message['Subject'] = 'Mail number %d' % number
    message['From'] = 'ann@example.com'
    message['To'] = 'bob@example.org'
    return message


def main():
    for attempt in (1, 2):
        print('--- fixture', attempt)
        fixture = MailFixture()
        fixture.start()
        client = smtplib.SMTP('127.0.0.1', fixture.server.port, timeout=20)
        print('EHLO:', client.ehlo()[0], 'size' in client.esmtp_features)
        for number in (1, 2, 3):
            body = 'Hello,\n.\n..dots\n\nbye %d\n' % number
            refused = client.sendmail(
                'ann@example.com', ['bob@example.org', 'carl@example.org'],
                mail(number, body).as_string())
            print('mail', number, 'refused by', refused)
        large = mail(4, 'line of a large mail\n' * 10000)
        client.sendmail('ann@example.com', 'bob@example.org', large.as_string())
        large['X-Refuse'] = 'yes'
        try:
            client.sendmail('ann@example.com', 'bob@example.org', large.as_string())
        except smtplib.SMTPDataError as why:
            print('refused:', why)
        print('NOOP:', client.noop())
        print('nonsense:', client.docmd('NONSENSE'))
        print('RSET:', client.rset()[0], 'VRFY:', client.verify('bob')[0])
        client.quit()
        print('the loop ended:', fixture.stop())
        for peer, mailfrom, rcpttos, data, extra in fixture.server.mails:
            print(peer, mailfrom, rcpttos, len(data), extra)
        print(fixture.server.mails[0][3].split(b'\n\n', 1)[1])
        print('handled in:', fixture.server.threads)
        print('left in the map:', len(asyncore.socket_map))


if __name__ == '__main__':
    main()

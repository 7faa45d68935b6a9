"""A small MUD: a town to walk about in, and to talk to whoever else is there.

Start it, then: telnet 127.0.0.1 4000
"""

import asynchat
import asyncore
import socket
import sys
import time

START = "gate"
#: What each place looks like, and where one gets to from there.
PLACES = {
    "gate": ("The town gate. Nobody has shut it for years.", {"north": "square"}),
    "square": (
        "The market square. A board for notes leans on a dry well.",
        {"south": "gate", "east": "inn", "north": "tower"},
    ),
    "inn": ("The inn. It is warm, dark and out of beer.", {"west": "square"}),
    "tower": ("The bell tower. A rope hangs down from above.", {"south": "square"}),
}
HELP = """\
look              what there is to see
north, east, ...  go there
say WORDS         to everybody in the same place
tell NAME WORDS   to one player, wherever that is
who               the names of all players
write             put a note on the board
read              read the notes on the board
quit              leave the game
"""


class World:
    """Who is where, and what hangs on the board."""

    def __init__(self):
        self.players = {}
        self.notes = []

    def tell_all(self, text, place=None, but=None):
        for player in list(self.players.values()):
            if player is not but and place in (None, player.place):
                player.tell(text)


class Player(asynchat.async_chat):
    """A connection. It is in the game once it has a name."""

    def __init__(self, sock, addr, world):
        asynchat.async_chat.__init__(self, sock)
        self.addr = addr
        self.world = world
        self.name = None
        self.place = None
        self.pieces = []
        self.found = self.log_in
        self.set_terminator(b"\r\n")
        self.push(b"What is your name?\r\n")

    def tell(self, text):
        self.push(text.replace("\n", "\r\n").encode("latin-1", "replace") + b"\r\n")

    def collect_incoming_data(self, data):
        self.pieces.append(data)

    def found_terminator(self):
        text = b"".join(self.pieces).decode("latin-1")
        self.pieces = []
        self.found(text)

    def log_in(self, name):
        if not name.isalpha() or name in self.world.players:
            self.tell("You can't be called that. What is your name?")
            return
        self.name = name
        self.world.players[name] = self
        self.found = self.obey
        print(name + " is " + self.addr[0])
        self.go_to(START, name + " comes into town.")

    def obey(self, line):
        verb, _, rest = line.partition(" ")
        if verb in PLACES[self.place][1]:
            self.world.tell_all(self.name + " goes " + verb + ".", self.place, but=self)
            self.go_to(PLACES[self.place][1][verb], self.name + " is here.")
        elif verb in ("look", "say", "tell", "who", "write", "read", "help", "quit"):
            getattr(self, "do_" + verb)(rest)
        else:
            self.tell("You can't. Try: help")

    def go_to(self, place, news):
        self.place = place
        self.world.tell_all(news, place, but=self)
        self.do_look("")

    def do_look(self, rest):
        description, ways = PLACES[self.place]
        here = [each.name for each in self.world.players.values() if each.place == self.place]
        self.tell(description)
        self.tell("Here: " + ", ".join(sorted(here)) + ". Ways: " + ", ".join(sorted(ways)) + ".")

    def do_say(self, words):
        self.world.tell_all(self.name + ": " + words, self.place)

    def do_tell(self, rest):
        name, _, words = rest.partition(" ")
        if name in self.world.players:
            self.world.players[name].tell(self.name + " tells you: " + words)
        else:
            self.tell("Nobody here is called " + name + ".")

    def do_who(self, rest):
        self.tell("\n".join(sorted(self.world.players)))

    def do_write(self, rest):
        self.tell("Write. A line with nothing but a dot ends the note.")
        self.found = self.keep_note
        self.set_terminator(b"\r\n.\r\n")

    def keep_note(self, text):
        self.world.notes.append(self.name + " wrote:\n" + text.replace("\r\n", "\n"))
        self.tell("It hangs on the board now.")
        self.found = self.obey
        self.set_terminator(b"\r\n")

    def do_read(self, rest):
        self.tell("\n".join(self.world.notes) or "There are no notes.")

    def do_help(self, rest):
        self.push_with_producer(asynchat.simple_producer(HELP.replace("\n", "\r\n").encode()))

    def do_quit(self, rest):
        self.tell("Farewell.")
        self.close_when_done()

    def close(self):
        # However it ends: asyncore calls this.
        if self.world.players.get(self.name) is self:
            del self.world.players[self.name]
            self.world.tell_all(self.name + " is gone.", self.place)
        asynchat.async_chat.close(self)


class MudServer(asyncore.dispatcher):
    def __init__(self, port=4000, bell=60.0):
        asyncore.dispatcher.__init__(self)
        self.world = World()
        self.bell = bell
        self.next_bell = time.time() + bell
        self.create_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.set_reuse_addr()
        self.bind(("127.0.0.1", port))
        self.listen(5)

    def handle_accepted(self, sock, addr):
        Player(sock, addr, self.world)

    def readable(self):
        # The loop asks this in each of its rounds: a good moment to look at the clock.
        if time.time() >= self.next_bell:
            self.next_bell = time.time() + self.bell
            self.world.tell_all("The bell of the tower strikes.")
        return True


def main():
    server = MudServer(*[int(each) for each in sys.argv[1:]])
    host, port = server.socket.getsockname()
    print("listening on " + host + ":" + str(port))
    sys.stdout.flush()
    try:
        asyncore.loop(timeout=1)
    except KeyboardInterrupt:
        print("the town sleeps")


if __name__ == "__main__":
    main()

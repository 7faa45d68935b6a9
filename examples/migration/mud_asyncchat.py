"""A small MUD: a town to walk about in, and to talk to whoever else is there.

Start it, then: telnet 127.0.0.1 4000

    twistd -n asynchat --handler mud_asyncchat:Mud --listen tcp:4000:interface=127.0.0.1
"""

import re
from collections import deque

from twisted.internet.task import LoopingCall

from txasynchat import AsyncChat, AsyncChatFactory

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
        self.notes = deque(maxlen=100)

    def tell_all(self, text, place=None, but=None):
        for player in list(self.players.values()):
            if player is not but and place in (None, player.place):
                player.tell(text)


LINE = (b"\r\n", b"\n")
NOTE = re.compile(rb"\r?\n\.\r?\n")
#: Who lets more than this wait does not read: in bytes.
MOST_UNREAD = 1024 * 1024


class Player(AsyncChat):
    """A connection. It is in the game once it has a name."""

    def __init__(self, world):
        self.world = world
        self.name = None
        self.place = None
        self.found = self.log_in
        self.set_terminator(LINE)

    def handle_connect(self):
        self.push(b"What is your name?\r\n")

    def tell(self, text):
        if not self.is_open:  # its last words are on the way
            return
        self.push(text.replace("\n", "\r\n").encode("latin-1", "replace") + b"\r\n")
        if self.queued_output > MOST_UNREAD:
            self.abort()

    def collect_incoming_data(self, data):
        self._collect_incoming_data(data)

    def found_terminator(self):
        self.found(self._get_data().decode("latin-1"))

    def log_in(self, name):
        if not name.isalpha() or name in self.world.players:
            self.tell("You can't be called that. What is your name?")
            return
        self.name = name
        self.world.players[name] = self
        self.found = self.obey
        print(name + " is " + self.transport.getPeer().host)
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
        self.set_terminator(NOTE)

    def keep_note(self, text):
        self.world.notes.append(self.name + " wrote:\n" + text.replace("\r\n", "\n"))
        self.tell("It hangs on the board now.")
        self.found = self.obey
        self.set_terminator(LINE)

    def do_read(self, rest):
        self.tell("\n".join(self.world.notes) or "There are no notes.")

    def do_help(self, rest):
        self.push(HELP.replace("\n", "\r\n").encode())

    def do_quit(self, rest):
        self.tell("Farewell.")
        self.close_when_done()

    def handle_close(self):
        if self.world.players.get(self.name) is self:
            del self.world.players[self.name]
            self.world.tell_all(self.name + " is gone.", self.place)


class Mud(AsyncChatFactory):
    """The town, for all who connect."""

    def __init__(self, bell=60.0):
        self.world = World()
        super().__init__(Player, self.world)
        self.bell = LoopingCall(self.world.tell_all, "The bell of the tower strikes.")
        self.seconds = bell

    def startFactory(self):
        self.bell.start(self.seconds, now=False)

    def stopFactory(self):
        self.bell.stop()

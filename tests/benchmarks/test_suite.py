"""The benchmark suite itself: that it measures what it says. What comes out is not judged here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command_line
from benchmarks import framing, goals, measure, report, steps, traffic, wire
from benchmarks.peers import PEERS, UnavailableError
from benchmarks.peers.asyncchat import Lines

ROOT = Path(__file__).parents[2]

FRAMING = [
    (name, peer)
    for name, workload in framing.WORKLOADS.items()
    for peer in workload.peers
    if peer not in dict(workload.absent)
]


def tiny(name: str) -> framing.Workload:
    """A workload with little to do: a few messages, or one over several chunks."""
    workload = framing.WORKLOADS[name]
    if workload.kind == "message":
        return replace(workload, length=200_000, stream=200_000)
    if workload.kind == "near-misses":
        return replace(workload, stream=70_000)
    return replace(workload, stream=2_000)


def results(**workloads: dict[str, Any]) -> measure.Results:
    """What a run with these samples has: for each peer, (cpu, wall) of each round."""
    found: measure.Results = {
        "machine": measure.machine(),
        "rounds": 3,
        "quick": True,
        "workloads": {},
    }
    for name, peers in workloads.items():
        measured = {
            peer: {"absent": samples}
            if isinstance(samples, str)
            else {
                "samples": [
                    {"work": 1, "cpu": cpu, "wall": cpu, "client_cpu": 0.0, "memory": 0}
                    for cpu in samples
                ]
            }
            for peer, samples in peers.items()
        }
        found["workloads"][name.replace("_", "-")] = {
            "about": "a test",
            "unit": "answer",
            "wire": True,
            "peers": measured,
        }
    return found


# -- In memory ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "peer"), FRAMING)
def test_each_peer_finds_the_messages_of_each_workload(name: str, peer: str) -> None:
    contestant = framing.InMemoryContestant(tiny(name), PEERS[peer], quick=True)
    contestant.target = 0

    try:
        contestant.prepare()
    except UnavailableError as error:
        pytest.skip(str(error))


def test_a_peer_that_loses_a_message_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lines, "dataReceived", lambda self, data: None)
    contestant = framing.InMemoryContestant(tiny("lines-10-in-64k"), PEERS["AsyncChat"])

    with pytest.raises(measure.WrongResultError):
        contestant.prepare()


def test_the_near_misses_end_with_the_only_delimiter() -> None:
    workload = tiny("near-misses-66-in-7")
    stream = b"".join(framing.chunks(workload, framing.messages(workload, quick=False)))

    assert stream.find(framing.BOUNDARY) == len(stream) - 66
    assert stream.count(framing.BOUNDARY[:-1]) > 1000


# -- Rounds and ratios -------------------------------------------------------------------


class Recorded:
    """A contestant that only says when it was its turn."""

    def __init__(self, name: str, turns: list[str], seconds: float = 0.0) -> None:
        self.name, self.turns, self.seconds = name, turns, seconds

    def start(self) -> None:
        pass

    def prepare(self) -> float:
        return self.seconds

    def sample(self) -> measure.Sample:
        self.turns.append(self.name)
        return measure.Sample(work=1, cpu=1.0, wall=1.0)

    def close(self) -> None:
        self.turns.append("end of " + self.name)


def test_each_round_has_one_sample_of_each() -> None:
    turns: list[str] = []

    measure.run({("w", name): Recorded(name, turns) for name in "ABC"}, rounds=2)

    assert turns == [*"ABCABC", "end of A", "end of B", "end of C"]


def test_a_slow_one_takes_part_in_the_first_round_only() -> None:
    turns: list[str] = []
    slow = Recorded("slow", turns, seconds=10.0)

    measure.run({("w", "A"): Recorded("A", turns), ("w", "slow"): slow}, rounds=3)

    assert turns[:4] == ["A", "slow", "A", "A"]


def test_one_that_fails_is_reported_and_the_others_go_on() -> None:
    class Failing(Recorded):
        def sample(self) -> measure.Sample:
            raise measure.WrongResultError("it lost something")

    contestants = {("w", "A"): Failing("A", []), ("w", "B"): Recorded("B", [])}
    found = measure.run(contestants, rounds=3)

    assert found["w", "A"] == {"absent": "failed: it lost something", "failed": True}
    assert len(found["w", "B"]["samples"]) == 3


def test_a_ratio_is_formed_within_each_round_and_is_theirs_to_ours() -> None:
    # The machine was ten times slower in the second round, for both.
    found = results(echo_1x1000={"AsyncChat": [1.0, 10.0, 1.0], "LineReceiver": [2.0, 30.0, 4.0]})

    spread = measure.ratio(found, ("echo-1x1000", "AsyncChat"), ("echo-1x1000", "LineReceiver"))

    assert spread == (2.5, 3.0, 3.5)


def test_there_is_no_ratio_to_who_was_not_measured() -> None:
    found = results(idle_5000={"drop-in": [1.0], "removed (select)": "no descriptors"})

    ours, theirs = ("idle-5000", "drop-in"), ("idle-5000", "removed (select)")

    assert measure.ratio(found, ours, theirs) is None


def test_a_single_sample_is_its_own_spread() -> None:
    assert measure.spread([3.0]) == (3.0, 3.0, 3.0)


# -- Over sockets ------------------------------------------------------------------------


@pytest.mark.parametrize("peer", ["AsyncChat", "drop-in", "LineReceiver"])
def test_an_echo_over_sockets_is_measured(peer: str) -> None:
    contestant = wire.WireContestant(wire.WORKLOADS["echo-1x1000"], PEERS[peer])
    contestant.target = 0.0
    contestant.start()

    try:
        contestant.prepare()
        sample = contestant.sample()
    finally:
        contestant.close()

    assert sample.work == 1000
    assert 0 < sample.cpu < 10


def test_select_takes_part_among_a_thousand_idle_connections() -> None:
    wire.check_descriptors(PEERS["removed (select)"], wire.WORKLOADS["idle-1000"])


def test_select_does_not_take_part_beyond_its_descriptors() -> None:
    with pytest.raises(UnavailableError, match="below 1,024"):
        wire.check_descriptors(PEERS["removed (select)"], wire.WORKLOADS["idle-5000"])


def test_a_download_is_the_same_in_pieces_and_as_a_whole() -> None:
    assert b"".join(traffic.pieces(3 * 2**20)) == traffic.whole(3 * 2**20)


# -- The command line and the report -----------------------------------------------------


def test_the_list_names_all_workloads(capsys: pytest.CaptureFixture[str]) -> None:
    command_line.main(["--list"])

    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == [*framing.WORKLOADS, *wire.WORKLOADS]


def test_a_name_that_begins_no_workload_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["ehco"])

    assert "no workload begins with 'ehco'" in capsys.readouterr().err


def test_each_goal_is_about_a_workload_and_peers_that_are_measured() -> None:
    for goal in goals.GOALS:
        peers = command_line.WORKLOADS[goal.workload].peers
        assert {goal.face, goal.peer, goal.limit or goal.face} <= {*peers}, goal


def test_a_run_writes_json_from_which_the_report_is_made_again(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    arguments = ["lines-10-in-64k", "--quick", "--rounds=2", "--peers=AsyncChat,LineReceiver"]
    run = [sys.executable, "-m", "benchmarks", *arguments, f"--json={file}"]
    printed = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert report.render(json.loads(file.read_text())) == printed
    assert re.search("lines-10-in-64k +AsyncChat +LineReceiver +>= 11 ", printed)


def test_the_report_says_which_goals_hold() -> None:
    found = results(
        echo_1x1000={
            "AsyncChat": [1.0, 1.0, 1.0],
            "LineReceiver": [3.5, 3.5, 3.5],
            "Protocol by hand": [0.5, 0.5, 0.5],
        }
    )

    lines = report.render(found, markdown=True).splitlines()

    assert (
        "| echo-1x1000 | AsyncChat | LineReceiver | >= 3 | 3.50 (3.50-3.50) | 7.00 | holds |"
        in lines
    )
    assert (
        "| echo-1x1000 | AsyncChat | Protocol by hand | >= 1 | 0.50 (0.50-0.50) |  | MISSED |"
        in lines
    )


def test_a_goal_that_the_limit_itself_misses_is_out_of_reach() -> None:
    found = results(
        lines_10_in_64k={"AsyncChat": [1.0], "LineReceiver": [4.0], "bare split": [0.8]},
    )

    assert (
        "| lines-10-in-64k | AsyncChat | LineReceiver | >= 11 | 4.00 (4.00-4.00) | 5.00 "
        "| out of reach |"
    ) in report.render(found, markdown=True)


def test_the_report_says_why_somebody_was_not_measured() -> None:
    found = results(idle_5000={"drop-in": [1.0], "removed (select)": "no descriptors"})

    assert "n/a: no descriptors" in report.render(found)


def test_a_client_that_limits_the_server_is_reported() -> None:
    found = results(pingpong_1={"AsyncChat": [0.5]})
    found["workloads"]["pingpong-1"]["peers"]["AsyncChat"]["samples"][0] |= {
        "wall": 1.0,
        "client_cpu": 0.95,
    }

    assert "client-bound" in report.render(found)


def test_steps_are_the_same_whenever_they_are_counted() -> None:
    counts = [steps.count(framing.WORKLOADS["frames-16-in-64k"], "AsyncChat") for _ in range(2)]

    assert counts[0] == counts[1]


def test_the_handlers_part_of_the_steps_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    steps.main(["lines-10-in-7", "--peers", "bare split,Int32StringReceiver"])

    said = capsys.readouterr().out
    assert re.search(r"^ +\d+\.\d +\d+\.\d  handlers\.\S*found_terminator$", said, re.MULTILINE)
    assert "Int32StringReceiver: n/a: it has no lines" in said


def test_plots_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.plots import draw

    draw(results(pingpong_1={"AsyncChat": [0.5], "LineReceiver": [0.6]}), tmp_path)

    assert "<svg" in (tmp_path / "echo.svg").read_text()

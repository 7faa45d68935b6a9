"""The pictures of the documentation say what the code says."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any
from xml.etree import ElementTree

import pytest
from pages import PAGES, ROOT

import txasynchat
from txasynchat.core.lifecycle import TRANSITIONS, Event, State

PICTURES = ROOT / "docs" / "pictures"
NAMES = sorted(path.stem for path in PICTURES.glob("*.svg"))

ONE = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def draw() -> Any:
    """The script that draws them."""
    spec = spec_from_file_location("draw", PICTURES / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def elements(name: str) -> list[ElementTree.Element]:
    return list(ElementTree.parse(PICTURES / f"{name}.svg").iter())


def texts(name: str) -> list[str]:
    return [each.text or "" for each in elements(name) if each.tag.endswith("}text")]


def test_the_pictures_are_those_that_the_script_draws(draw: Any) -> None:
    drawn = {name: str(make()) for name, make in draw.PICTURES.items()}
    assert drawn == {name: (PICTURES / f"{name}.svg").read_text() for name in NAMES}


def test_the_picture_of_the_lifecycle_is_its_table() -> None:
    shown: dict[State, dict[Event, State]] = {state: {} for state in State}
    for each in elements("lifecycle"):
        for event in each.get("data-events", "").split():
            moves = shown[State[each.attrib["data-from"].upper()]]
            assert Event[event.upper()] not in moves
            moves[Event[event.upper()]] = State[each.attrib["data-to"].upper()]
    assert shown == TRANSITIONS


def test_the_states_and_the_events_are_written_beside_what_stands_for_them() -> None:
    written = texts("lifecycle")
    assert {state.name.lower() for state in State} <= set(written)
    events = [each.get("data-events", "") for each in elements("lifecycle")]
    labels = [each.replace(" ", ", ") for each in events if each]
    assert sorted(labels) == sorted(text for text in written if text in set(labels))


@ONE
def test_the_files_and_the_names_in_a_picture_are_there(name: str) -> None:
    source = "".join(path.read_text() for path in (ROOT / "txasynchat").rglob("*.py"))
    for text in texts(name):
        for file in re.findall(r"[\w/]+\.py\b", text):
            assert (ROOT / "txasynchat" / file).exists()
        for method in re.findall(r"(\w+)\(", text):
            assert re.search(rf"\b{method}\(", source), method


def test_the_pauses_in_the_pictures_are_those_of_the_code() -> None:
    reasons = {str(reason) for reason in txasynchat.PauseReason}
    assert {"output full", "nobody reads"} <= reasons
    assert "output full" in texts("bytes-out")
    assert "pause: nobody reads" in texts("input-goes-to")


@ONE
def test_a_picture_is_shown_with_words_for_those_who_do_not_see_it(name: str) -> None:
    shown = "".join(page.read_text() for page in PAGES)
    assert re.search(rf"!\[[^\]]{{20,}}\]\(pictures/{name}\.svg\)", shown)


@ONE
def test_a_picture_needs_nothing_from_elsewhere(name: str) -> None:
    text = (PICTURES / f"{name}.svg").read_text()
    assert re.findall(r"\w+://[^\"<]*", text) == ["http://www.w3.org/2000/svg"]


@ONE
def test_the_texts_of_a_picture_are_on_its_ground(name: str) -> None:
    root = ElementTree.parse(PICTURES / f"{name}.svg").getroot()
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for each in elements(name):
        if not each.tag.endswith("}text"):
            continue
        # As wide as the widest of the fonts that may be taken.
        length = len(each.text or "") * (6.6 if each.get("class") == "small" else 8)
        share = {"start": 0.0, "middle": 0.5, "end": 1.0}[each.attrib["text-anchor"]]
        begins = float(each.attrib["x"]) - share * length
        assert begins >= 0, each.text
        assert begins + length <= width, each.text
        assert 12 <= float(each.attrib["y"]) <= height - 4, each.text

"""The numbers of several processes added up."""

from __future__ import annotations

import builtins
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txasynchat.metrics import add_up, metrics_site

KEYS = st.sampled_from("abcde")
# A key is always a number or always a dict, as in the numbers of one program.
NUMBERS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(KEYS, st.integers(min_value=0)),
    lambda inner: st.builds(
        lambda plain, deep: {**plain, **{key.upper(): value for key, value in deep.items()}},
        st.dictionaries(KEYS, st.integers(min_value=0)),
        st.dictionaries(KEYS, inner),
    ),
    max_leaves=8,
)


def leaves(numbers: dict[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    for key, value in numbers.items():
        if isinstance(value, dict):
            found.update(leaves(value, (*path, key)))
        else:
            found[(*path, key)] = value
    return found


@given(st.lists(NUMBERS))
def test_each_number_is_the_sum_of_those_at_its_place(parts: list[dict[str, Any]]) -> None:
    flat = [leaves(part) for part in parts]
    expected = {
        path: sum(each.get(path, 0) for each in flat) for path in {p for each in flat for p in each}
    }
    assert leaves(add_up(parts)) == expected


@given(NUMBERS, NUMBERS, NUMBERS)
def test_the_order_and_the_grouping_do_not_matter(
    one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]
) -> None:
    whole = add_up([one, two, three])
    assert whole == add_up([three, add_up([two, one])])


@given(NUMBERS)
def test_what_is_added_stays_as_it_was_and_shares_nothing(numbers: dict[str, Any]) -> None:
    before = copy.deepcopy(numbers)
    add_up([add_up([numbers]), numbers])
    assert numbers == before


@given(NUMBERS)
def test_one_alone_is_itself(numbers: dict[str, Any]) -> None:
    assert add_up([numbers]) == numbers


def test_handlers_of_some_workers_only_are_kept() -> None:
    one = {"handlers": {"A": {"connections_open": 1}}, "workers": 1}
    two = {"handlers": {"B": {"connections_open": 2}}, "workers": 1}
    assert add_up([one, two]) == {
        "handlers": {"A": {"connections_open": 1}, "B": {"connections_open": 2}},
        "workers": 2,
    }


def test_without_prometheus_client_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("prometheus_client"):
            raise ModuleNotFoundError("No module named 'prometheus_client'", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError) as raised:
        metrics_site(dict)
    assert str(raised.value) == "metrics need prometheus_client: pip install prometheus_client"

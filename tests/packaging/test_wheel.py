"""The wheel holds the package, its plugin, and what says what it is; and nothing else."""

from __future__ import annotations

import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import version

import pytest
from building import ROOT, Built


@pytest.fixture
def names(built: Built) -> list[str]:
    return zipfile.ZipFile(built.wheel).namelist()


@pytest.fixture
def metadata(built: Built, names: list[str]) -> Message:
    (name,) = [name for name in names if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(zipfile.ZipFile(built.wheel).read(name).decode())


def test_the_wheel_holds_the_package_and_one_plugin_and_nothing_else(
    built: Built, names: list[str]
) -> None:
    package = (built.tree / "txasynchat").rglob("*")
    files = [path.relative_to(built.tree).as_posix() for path in package if path.is_file()]
    ours = {name for name in files if not name.endswith(".pyc")}
    assert {"txasynchat/py.typed", "txasynchat/core/framing.py"} <= ours
    installed = {name for name in names if ".dist-info/" not in name}
    assert installed == {*ours, "twisted/plugins/txasynchat_plugin.py"}


def test_the_licence_is_in_the_wheel(names: list[str]) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_is_for_every_python_that_the_project_supports(
    built: Built, metadata: Message
) -> None:
    assert built.wheel.name.endswith("-py3-none-any.whl")
    assert metadata["Requires-Python"] == ">=3.10"


def test_what_is_installed_without_extras_is_twisted_alone(metadata: Message) -> None:
    needed = metadata.get_all("Requires-Dist", [])
    assert [each for each in needed if "extra ==" not in each] == ["twisted>=22.4"]


def test_the_metadata_say_that_it_is_typed(metadata: Message) -> None:
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])


def test_the_readme_is_the_description(metadata: Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (ROOT / "README.md").read_text()


def test_the_version_is_that_of_the_changelog(metadata: Message) -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert metadata["Version"] == version("txasynchat")
    assert f"## {version('txasynchat')}" in changelog

"""What pip installs, and takes away again, beside a Twisted that others use too."""

from __future__ import annotations

import csv
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from building import Built, Venv, as_one_who_may_not_write, run, succeed

FIND = """
import sys
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
found, = [p for p in getPlugins(IServiceMaker) if p.tapname == "asynchat"]
assert "twisted.internet.reactor" not in sys.modules, "a plugin has installed a reactor"
assert not any(name.startswith("txasynchat") for name in sys.modules)
print(found.module, sys.modules["twisted.plugins.txasynchat_plugin"].__file__)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory in which there is nothing of ours."""
    return tmp_path


@pytest.fixture
def writable(tmp_path_factory: pytest.TempPathFactory, installed: Venv) -> Venv:
    """A copy of what was installed, to write to."""
    copy = Venv(tmp_path_factory.mktemp("writable")).make(with_pip=False)
    site = copy.site
    shutil.rmtree(site)
    shutil.copytree(installed.site, site)
    succeed("chmod", "-R", "u+w", site)
    return copy


@pytest.fixture
def beside_the_others(tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """A venv with the packages of the environment in which the tests run."""
    made = Venv(tmp_path_factory.mktemp("beside")).make(with_pip=False)
    here = [path for path in sys.path if path.endswith("-packages")]
    (made.site / "others.pth").write_text("\n".join(here))
    return made


def the_commands_of(text: str) -> list[str]:
    """Those that a ``--help`` lists."""
    listed = text[text.index("\nCommands:") :].splitlines()[2:]
    return [line.split()[0] for line in listed if line.startswith("    ") and line[4] != " "]


@pytest.mark.parametrize("script", ["twist", "twistd"])
def test_help_lists_the_service_where_no_cache_can_be_written(
    installed: Venv, folder: Path, script: str
) -> None:
    reader = as_one_who_may_not_write()
    cache = installed.site / "twisted" / "plugins" / "dropin.cache"
    assert run(*reader, "touch", cache).returncode != 0
    shown = run(*reader, installed.bin / script, "--help", cwd=folder)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "asynchat" in the_commands_of(shown.stdout)
    assert not cache.exists()


def test_the_options_are_shown_where_no_cache_can_be_written(installed: Venv, folder: Path) -> None:
    reader = as_one_who_may_not_write()
    shown = run(*reader, installed.bin / "twistd", "asynchat", "--help", cwd=folder)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "--handler" in shown.stdout


def test_finding_the_plugin_loads_neither_the_package_nor_a_reactor(
    installed: Venv, folder: Path
) -> None:
    found = succeed(*as_one_who_may_not_write(), installed.python, "-c", FIND, cwd=folder)
    assert found.split()[0] == "txasynchat.tap"


def test_an_editable_install_has_the_plugin(
    built: Built, beside_the_others: Venv, folder: Path
) -> None:
    zipfile.ZipFile(built.editable_wheel).extractall(beside_the_others.site)
    module, file = succeed(beside_the_others.python, "-c", FIND, cwd=folder).split()
    assert module == "txasynchat.tap"
    assert Path(file).is_relative_to(built.tree)


def recorded(site: Path, name: str) -> Iterator[Path]:
    """The files that a distribution has in site-packages."""
    (record,) = site.glob(f"{name}-*.dist-info/RECORD")
    with record.open() as lines:
        for path, *_ in csv.reader(lines):
            if not path.startswith(".."):
                yield site / path


def test_uninstalling_it_leaves_twisted_whole(writable: Venv, folder: Path) -> None:
    twistd = (writable.python, "-c", "from twisted.scripts.twistd import run; run()", "--help")
    twisteds = list(recorded(writable.site, "twisted"))
    assert len(twisteds) > 500
    assert "asynchat" in the_commands_of(succeed(*twistd, cwd=folder))
    assert (writable.site / "twisted" / "plugins" / "dropin.cache").exists()

    writable.pip("uninstall", "--yes", "txasynchat")

    assert [path for path in writable.site.rglob("*") if "txasynchat" in path.name] == []
    assert [path for path in twisteds if not path.exists()] == []
    shown = run(*twistd, cwd=folder)
    assert (shown.returncode, shown.stderr) == (0, "")
    commands = the_commands_of(shown.stdout)
    assert "asynchat" not in commands
    assert "web" in commands

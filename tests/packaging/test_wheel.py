"""The wheel holds what it should, and its plugin is found once it is installed."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy of the tree so that nothing is left in it."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    tree.mkdir()
    for name in ("txasynchat", "twisted", "pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(tree)], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(tree)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = folder.glob("txasynchat-*.whl")
    return found


def test_the_wheel_holds_the_package_and_one_plugin_and_nothing_else(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert "txasynchat/py.typed" in names
    assert "txasynchat/core/framing.py" in names
    outside = [name for name in names if not name.startswith("txasynchat/")]
    assert outside == ["twisted/plugins/txasynchat_plugin.py"]


def test_twistd_finds_the_plugin_of_the_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    # Twisted and its dependencies come from the environment of the tests.
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    here = [path for path in sys.path if path.endswith("-packages")]
    (site / "others.pth").write_text("\n".join(here))
    program = (
        "from twisted.plugin import getPlugins\n"
        "from twisted.application.service import IServiceMaker\n"
        "found = [p for p in getPlugins(IServiceMaker) if p.tapname == 'asynchat']\n"
        "import sys\n"
        "assert 'twisted.internet.reactor' not in sys.modules, 'a plugin installed a reactor'\n"
        "assert not any(name.startswith('txasynchat') for name in sys.modules)\n"
        "print(*{p.module for p in found})\n"
    )
    result = subprocess.run(
        [str(python), "-c", program], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert result.stdout.split() == ["txasynchat.tap"], result.stderr


def test_the_version_is_that_of_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## {version('txasynchat')}" in changelog

"""``python -m txasynchat``: run old programs on the reactor, and handlers as a service."""

from __future__ import annotations

import os
import sys
from argparse import REMAINDER, ArgumentParser, Namespace
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from io import open_code
from types import CodeType, ModuleType, TracebackType
from typing import Any

from txasynchat.legacy.aliases import install

__all__ = ("main",)

_ABOUT = "Terminator-framed protocols on Twisted, and a home for asynchat code."

_RUN = (
    "Run an unmodified program: its 'import asyncore' and 'import asynchat' give the modules "
    "of txasynchat. It has its own sys.argv, exit status and traceback."
)

_COMMANDS = {
    "check": "read a program, and report what of it works here and what wants a change",
    "replay": "feed a recorded conversation to a handler, and compare what it answers",
    "show": "print a recorded conversation for people",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says.

    :raise SystemExit: with the exit status, if it is not to be 0.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments[:1]) == ["serve"]:
        from txasynchat.serve import serve

        serve(arguments[1:])
        return
    parser = ArgumentParser("python -m txasynchat", description=_ABOUT)
    parser.add_argument("--version", action="version", version=f"txasynchat {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run a program that was written for asyncore and asynchat",
        description=_RUN,
        usage="%(prog)s [--reactor NAME] [--ssl-wrap-socket] (SCRIPT | -m MODULE) [ARGUMENT ...]",
    )
    run.add_argument(
        "--reactor",
        metavar="NAME",
        help="the reactor to run on (epoll, poll, select, asyncio, ...); "
        "without it, one is used only if the program loads one",
    )
    run.add_argument(
        "--ssl-wrap-socket",
        action="store_true",
        help="bring back ssl.wrap_socket(), which Python 3.12 removed; "
        "unless the program asks for it, certificates are not checked",
    )
    run.add_argument("-m", dest="module", action="store_true", help="run a module, not a script")
    run.add_argument("program", metavar="SCRIPT", help="the script, or with -m the module")
    run.add_argument("arguments", nargs=REMAINDER, metavar="ARGUMENT", help="for the program")
    commands.add_parser(
        "serve",
        help="run a handler or a server as a service: the options are those of twistd asynchat",
        add_help=False,
    )
    for name, words in _COMMANDS.items():
        command = commands.add_parser(name, help=words)
        if list(arguments[:1]) == [name]:  # what it needs, "run" had better not import
            getattr(import_module(f"txasynchat.{name}"), f"{name}_command")(command)
    options = parser.parse_args(arguments)
    if "call" in options:
        options.call(options)
    else:
        _run(options, run)


def _version() -> str:
    try:
        return version("txasynchat")
    except PackageNotFoundError:
        return "that is not installed"


def _run(options: Namespace, parser: ArgumentParser) -> None:
    if options.reactor is not None:
        _install_reactor(options.reactor, parser)
    install(ssl_wrap_socket=options.ssl_wrap_socket)
    module = ModuleType("__main__")
    if options.module:
        code = _load_module(options.program, module, parser)
    else:
        code = _load_script(options.program, module, parser)
    sys.argv[:] = [module.__file__ or options.program, *options.arguments]
    sys.modules["__main__"] = module
    sys.excepthook = _ShowFrom(code, sys.excepthook)
    exec(code, vars(module))


def _install_reactor(name: str, parser: ArgumentParser) -> None:
    from txasynchat.serve import install_reactor

    try:
        install_reactor(name)
    except ValueError as error:
        parser.error(f"--reactor {name}: {error}")


def _load_script(path: str, module: ModuleType, parser: ArgumentParser) -> CodeType:
    try:
        with open_code(os.path.abspath(path)) as file:
            source = file.read()
    except OSError as error:
        parser.error(f"can't open {path}: {error.strerror}")
    module.__file__ = path
    sys.path[0] = os.path.dirname(os.path.realpath(path))
    return _compiled(source, path)


def _compiled(source: bytes, path: str) -> CodeType:
    try:
        return compile(source, path, "exec", dont_inherit=True)
    except SyntaxError:
        sys.excepthook = _ShowFrom(None, sys.excepthook)
        raise


def _load_module(name: str, module: ModuleType, parser: ArgumentParser) -> CodeType:
    sys.path[0] = os.getcwd()
    try:
        spec = find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = find_spec(f"{name}.__main__")
    except (ImportError, ValueError) as error:
        parser.error(f"no module named {name}: {error}")
    loader: Any = None if spec is None else spec.loader
    code = None if spec is None or loader is None else loader.get_code(spec.name)
    if spec is None or code is None:
        parser.error(f"no module named {name} that can be run")
    module.__spec__ = spec
    module.__package__ = spec.parent
    module.__loader__ = loader
    module.__file__ = spec.origin
    return code  # type: ignore[no-any-return]


class _ShowFrom:
    """An excepthook that begins the traceback where the program begins."""

    def __init__(self, code: CodeType | None, show: Any) -> None:
        self._code = code
        self._show = show

    def __call__(
        self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        first = traceback
        while first is not None and first.tb_frame.f_code is not self._code:
            first = first.tb_next
        if self._code is None or first is not None:
            traceback = first
        self._show(kind, error.with_traceback(traceback), traceback)


if __name__ == "__main__":
    main()

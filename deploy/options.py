"""The options that every command has in common, and the settings they make."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cauda.core import log
from cauda.core.errors import Misconfigured
from cauda.core.settings import Settings, load

Config = Annotated[
    Path | None, typer.Option("--config", envvar="CAUDA_CONFIG", help="cauda.toml", rich_help_panel="Common")
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Everything a node keeps lies there; else ./data.", rich_help_panel="Common"),
]
SendTo = Annotated[
    list[str] | None,
    typer.Option(
        "--send-to",
        help="dimse://AET@HOST:PORT, stow+https://HOST/PATH (stow+http, too) or folder:PATH; options as "
        "?research=1&shadow=1. Repeatable; replaces those of the configuration.",
        rich_help_panel="Common",
    ),
]
Bundle = Annotated[
    str | None,
    typer.Option("--bundle", help="The folder of the grading bundle, 'starter' or 'none'.", rich_help_panel="Common"),
]
Aet = Annotated[str | None, typer.Option("--aet", help="Our AE title.", rich_help_panel="Common")]
Port = Annotated[int | None, typer.Option("--port", help="DICOM port; 0 for any free one.", rich_help_panel="Common")]
Http = Annotated[str | None, typer.Option("--http", help="[HOST:]PORT of the pages.", rich_help_panel="Common")]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        help="[AET@]NETWORK that may send, as 10.1.0.0/16. Repeatable; loopback only without it.",
        rich_help_panel="Common",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The common options as given; None where one was not."""

    config: Path | None = None
    data: Path | None = None
    send_to: tuple[str, ...] = ()
    bundle: str | None = None
    aet: str | None = None
    port: int | None = None
    http: str | None = None
    allow: tuple[str, ...] = ()

    def overrides(self) -> dict[str, Any]:
        """What they say, in the shape of the settings."""
        node = {"aet": self.aet, "port": self.port}
        tree: dict[str, Any] = {
            "data": self.data,
            "destinations": self.send_to or None,
            "node": {key: value for key, value in node.items() if value is not None},
            "http": _http(self.http) if self.http is not None else {},
            "peers": tuple(_peer(text) for text in self.allow) or None,
        }
        tree = {key: value for key, value in tree.items() if value not in (None, {})}
        if self.bundle is not None:
            tree["grading"] = {"bundle": Path(self.bundle)}
        return tree

    def arguments(self) -> list[str]:
        """The same as a command line, for a child process."""
        pairs: list[tuple[str, object]] = [
            ("--config", self.config and self.config.resolve()),
            ("--data", self.data and self.data.resolve()),
            *(("--send-to", one) for one in self.send_to),
            ("--bundle", self.bundle),
            ("--aet", self.aet),
            ("--port", self.port),
            ("--http", self.http),
            *(("--allow", one) for one in self.allow),
        ]
        return [part for name, value in pairs if value is not None for part in (name, str(value))]

    def settings(self) -> Settings:
        """The settings they make; Misconfigured names the key and what is allowed."""
        return load(self.config, environ=os.environ, overrides=self.overrides())

    def start(self) -> Settings:
        """The settings of a process that stays, whose log they shape."""
        made = self.settings()
        log.configure(level=made.log.level, form=made.log.format)
        return made


def _http(text: str) -> dict[str, Any]:
    host, _, port = text.rpartition(":")
    if not port.isdigit():
        raise Misconfigured(f"--http: {text!r} is not [HOST:]PORT")
    return {"port": int(port)} | ({"host": host.strip("[]")} if host else {})


def _peer(text: str) -> dict[str, str]:
    aet, _, network = text.rpartition("@")
    return {"aet": aet or "*", "network": network}


Result = TypeVar("Result")


def common(command: Callable[..., Result]) -> Callable[..., Result]:
    """A command whose first parameter is `Options`: the common options appear in its place on the command line."""
    own = inspect.signature(command, eval_str=True)
    _, *rest = own.parameters.values()
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in _SHARED.items()
    ]

    @functools.wraps(command)
    def with_options(**given: Any) -> Result:
        values = {name: given.pop(name) for name in _SHARED}
        values |= {name: tuple(values[name] or ()) for name in ("send_to", "allow")}
        return command(Options(**values), **given)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in rest]
    vars(with_options)["__signature__"] = own.replace(parameters=[*parameters, *shared])
    with_options.__annotations__ = {p.name: p.annotation for p in (*parameters, *shared)}
    return with_options


_SHARED: dict[str, Any] = {
    "config": Config,
    "data": Data,
    "send_to": SendTo,
    "bundle": Bundle,
    "aet": Aet,
    "port": Port,
    "http": Http,
    "allow": Allow,
}

"""`cauda config`: is it right, what holds, what could be said."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Annotated

import typer

from cauda.core import passwords
from cauda.core.errors import Misconfigured
from cauda.core.masks import masked, masked_tree, secrets_of
from cauda.deploy import bootstrap, output
from cauda.deploy.options import Options, common

app = typer.Typer(no_args_is_help=True, help="Check, show and write the configuration.")


@app.command()
@common
def check(options: Options) -> None:
    """Read configuration, environment and options; name the key that is wrong and what is allowed."""
    settings = bootstrap.with_bundle(options.settings())
    bootstrap.fingerprint(settings)
    output.say("configuration is valid")
    for destination in settings.destinations:
        output.say(
            f"  {masked(destination.name)}: {'live' if destination.live else 'shadow: results are made, not sent'}"
        )


@app.command()
@common
def show(options: Options) -> None:
    """What holds, as JSON, after configuration, environment and options; secrets are masked."""
    settings = options.settings()
    output.show_json(masked_tree(settings.model_dump(mode="json"), secrets_of(settings)))


@app.command()
def example() -> None:
    """A commented cauda.toml with every key and its default."""
    output.say(files("cauda.deploy").joinpath("cauda.example.toml").read_text().rstrip("\n"))


@app.command()
def user(name: Annotated[str, typer.Argument(help="Who may log in to the pages.")]) -> None:
    """Make an entry for http.users: a name and the hash of a password that is asked for."""
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    try:
        kept = passwords.hashed(password)
    except ValueError as error:
        raise Misconfigured(f"{error}") from error
    output.say(f"{{ name = {json.dumps(name)}, hash = {json.dumps(kept)} }}")

"""`cauda doctor`: is this node well."""

from __future__ import annotations

from dataclasses import asdict, replace

import typer

from cauda.core.masks import masked, secrets_of
from cauda.deploy import bootstrap, output
from cauda.deploy.options import Options, common


@common
def doctor(options: Options, *, as_json: output.AsJson = False) -> None:
    """Look at folders, disk, ledger, broker, ports, bundle and destinations; say what to do. 1 if anything fails."""
    from cauda.deploy import doctor as checks

    settings = bootstrap.with_bundle(options.settings())
    lines, secrets = [], secrets_of(settings)
    for found in checks.examine(settings):
        line = replace(found, name=masked(found.name, secrets), words=masked(found.words, secrets))
        lines.append(line)
        if not as_json:
            output.say(f"{'OK  ' if line.ok else 'FAIL'}  {line.name:12}  {line.words}")
    if as_json:
        output.show_json([asdict(line) for line in lines])
    if not all(line.ok for line in lines):
        raise typer.Exit(output.FAILED)

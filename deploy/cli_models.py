"""`cauda models`: what a bundle says of itself, and whether it is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cauda.core.errors import Misconfigured
from cauda.deploy import bootstrap, output
from cauda.deploy.options import Options, common
from cauda.models import manifest

app = typer.Typer(no_args_is_help=True, help="Grading bundles: what they are, and whether they are whole.")


@app.command()
@common
def show(options: Options, *, as_json: output.AsJson = False) -> None:
    """The bundle's card: what it is for, what it was trained on, how it was evaluated. No file of it is loaded."""
    said, digest = manifest.read_manifest(_bundle(options))
    card = {"digest": digest} | said.model_dump(mode="json", exclude={"files", "libraries"})
    if as_json:
        output.show_json(card)
        return
    for key, value in card.items():
        output.say(f"{key.replace('_', ' '):16} {_words(value)}")


@app.command()
@common
def verify(options: Options) -> None:
    """Check every hash, the reference inputs, and that it withholds no more Severe levels; exits 2 when it fails."""
    from cauda.models.bundle import load_bundle

    folder = _bundle(options)
    parts = load_bundle(folder, options.settings().grading.bundle_digest)
    output.say(f"{folder} is whole: {parts.info.name} {parts.info.version}, digest {parts.info.digest}")


@app.command()
@common
def convert(
    options: Options,
    folder: Annotated[Path, typer.Argument(metavar="OLD", help="The bundle in the old form.")],
    out: Annotated[Path, typer.Argument(metavar="NEW", help="A folder that does not exist yet.")],
    *,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="The old bundle comes from a place that I trust; it may run code.")
    ] = False,
) -> None:
    """Rewrite a bundle of the old form, whose graders were a pickle, in today's form, which cannot run code.

    A pickle can run any code when it is read, with your rights. Convert only what you trained or got from somebody you
    trust, and best where nothing else lies. Where grading.bundle_digest is set, it must be the old bundle's.
    """
    if not trust_pickle:
        raise Misconfigured(
            f"models convert: reading {folder} can run code with your rights. If you trust where it comes from, "
            "say so with --trust-pickle"
        )
    from cauda.models import convert as conversion

    old, new = conversion.convert(folder, out, options.settings().grading.bundle_digest)
    output.say(
        f"{out} is whole, digest {new}; {folder} had {old}. Set grading.bundle, and bundle_digest where you pin it."
    )


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return "; ".join(str(one) for one in value) if isinstance(value, list) else str(value)


def _bundle(options: Options) -> Path:
    named = bootstrap.with_bundle(options.settings(), default=bootstrap.STARTER).grading.bundle
    if named is None:
        raise Misconfigured("grading.bundle: none is named, and this installation has no starter; give --bundle")
    return named

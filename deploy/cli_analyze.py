"""`cauda analyze`: one study, no daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cauda.core.domain import Status
from cauda.core.errors import Rejected
from cauda.deploy import bootstrap, output
from cauda.deploy.options import Options, common


@common
def analyze(
    options: Options,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study's DICOM files, in any folders below.")],
    *,
    out: Annotated[Path, typer.Option(help="Where report.json, sr.dcm, sc.dcm and sc.png go.")],
    study: Annotated[str | None, typer.Option(help="Study Instance UID, where there are several.")] = None,
    experimental: Annotated[
        bool, typer.Option("--experimental", help="Also write experimental.json: levels by K-means, never delivered.")
    ] = False,
    heat_map: Annotated[
        bool,
        typer.Option("--heat-map", help="Also write heat.dcm and heat.png: on what places the grades hang. Slow."),
    ] = False,
    as_json: output.AsJson = False,
) -> None:
    """Grade the study in a folder, without a daemon.

    Exits 0 when it was reported (also when every level was not graded), 3 when it was rejected or held, 1 on an error.
    """
    import time

    from cauda.deploy import analyze as work
    from cauda.pipeline import report_json
    from cauda.pipeline.results import words

    settings = bootstrap.with_bundle(options.start(), default=bootstrap.STARTER)
    fingerprint = bootstrap.fingerprint(settings)
    try:
        found = work.folder_of(folder, study)
    except Rejected as error:  # of the command, not of a study
        output.complain(error.message)
        raise typer.Exit(output.FAILED) from None
    for line in found.left_out:
        output.complain(line)
    parts = work.parts_of(settings.grading.bundle, fingerprint.bundle_digest)
    analysis = work.analyse(found, parts, settings, time.perf_counter)
    wanted = heat_map or settings.grading.heat_map_page
    maps = work.heat(found, analysis, parts) if wanted else {}
    files = work.write(out, found, analysis, settings, fingerprint, maps)
    if experimental:
        files.append(work.experiments(out, found, analysis))
    report = report_json.to_json(analysis.report, 1)
    if as_json:
        output.show_json(report)
    else:
        output.show_report(report)
        for line in words.left_out_words(analysis.report):
            output.complain(line)
        for path in files:
            output.say(f"  {path}")
    if analysis.report.status is not Status.REPORTED:
        raise typer.Exit(output.NO)

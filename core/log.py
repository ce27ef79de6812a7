"""Logging: one JSON object a line, or colours on a terminal. Identifiers, never objects or patient data.

Event names are static and snake_case; what varies is a field. Bind at a border, clear at its end.
"""

from __future__ import annotations

import logging
import sys
import warnings
from io import StringIO
from typing import Literal, TextIO

import structlog

from cauda.core.plain_text import plain


def configure(
    *, level: str = "info", form: Literal["auto", "json", "console"] = "auto", stream: TextIO | None = None
) -> None:
    """Send structlog and the standard library's records through one formatter to ``stream`` (stderr)."""
    out = stream or sys.stderr
    console = form == "console" or (form == "auto" and out.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if console:
        shared.pop()  # the console renderer draws its own tracebacks
        shared.append(_as_text)  # JSON spells what is not ASCII by itself
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=_traceback)
        if console
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These speak of data sets and frames at INFO; ours says the same once, without patient data.
    for name in ("pynetdicom", "pydicom", "celery", "kombu", "uvicorn", "alembic", "highdicom", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # pynetdicom and pydicom put element values into some warnings and tracebacks.
    for name in ("pynetdicom", "pydicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", module=name)  # the same words on another way
    warnings.showwarning = _warned
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _as_text(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:  # fmt: skip
    """Nothing that came from outside moves a terminal's cursor or makes a line that looks like ours."""
    return {key: _shown(key, value) for key, value in event.items()}


def _shown(key: str, value: object) -> object:
    if key.startswith("_") or key == "exc_info":
        return value  # of structlog's own
    if isinstance(value, str):
        return plain(value, lines=key == "stack")
    return value if value is None or isinstance(value, int | float) else plain(str(value))


def _traceback(out: TextIO, error: structlog.typing.ExcInfo) -> None:
    buffer = StringIO()
    structlog.dev.plain_traceback(buffer, error)
    out.write(plain(buffer.getvalue(), lines=True))


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that says which part speaks."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger().bind(part=name)
    return logger


def _warned(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: object = None,
    line: str | None = None,
) -> None:  # fmt: skip
    """A warning without its text: pydicom's repeat the value that they complain about."""
    del message, file, line
    get("python").warning("python_warning", category=category.__name__, where=f"{filename}:{lineno}")

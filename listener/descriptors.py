"""Enough file descriptors for every connection that is taken: checked at the start, not met at the worst moment."""

from __future__ import annotations

import resource

from cauda.core.errors import Misconfigured
from cauda.core.settings import Settings
from cauda.listener.admission import UNLISTED_CONNECTIONS, connections_for_listed, connections_for_open

_PER_CONNECTION = 4  # the socket, what wakes its thread, the file that is received, and one while another is opened
_PER_HTTP_CONNECTION = 3  # the socket, what is received, what is shown
_BESIDE = 200  # ledger, log, broker, questions to an archive, files that are filed or shown


def needed(settings: Settings) -> int:
    """How many descriptors the listener opens at most."""
    limits = settings.limits
    connections = connections_for_listed(limits) + connections_for_open(limits) + UNLISTED_CONNECTIONS
    return _PER_CONNECTION * connections + _PER_HTTP_CONNECTION * settings.http.max_connections + _BESIDE


def trouble(settings: Settings) -> str | None:
    """What to do where the system allows fewer; None when it allows enough."""
    count, (_, hard) = needed(settings), resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= count:
        return None
    return (
        f"limits.max_associations = {settings.limits.max_associations} and http.max_connections = "
        f"{settings.http.max_connections} need {count} file descriptors, the system allows {hard}: raise LimitNOFILE "
        "of the service (compose: ulimits.nofile), or lower these settings"
    )


def reserve(settings: Settings) -> None:
    """Raise the soft limit as far as needed; Misconfigured where the hard one is below."""
    if (why := trouble(settings)) is not None:
        raise Misconfigured(why)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed(settings):
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed(settings), hard))

"""`cauda up`: the listener in this process, the workers as children, on a data folder that is ours alone."""

from __future__ import annotations

import threading
from collections.abc import Callable

from cauda.core.revisions import Fingerprint
from cauda.core.settings import Settings
from cauda.core.spool import Spool
from cauda.deploy.lock import alone
from cauda.deploy.options import Options
from cauda.deploy.supervisor import Beside, supervise, workers
from cauda.listener import serve
from cauda.listener.serve import Ports


def run(
    options: Options,
    settings: Settings,
    fingerprint: Fingerprint,
    stop: threading.Event,
    *,
    on_ready: Callable[[Ports], None],
) -> None:
    """Listener and workers until ``stop``; returns when both have ended."""
    Spool(settings.data).prepare()
    with alone(settings.data):
        ready = threading.Event()

        def say(ports: Ports) -> None:
            ready.set()
            on_ready(ports)

        listener = Beside(lambda: serve.run(settings, fingerprint, stop, on_ready=say), stop, "listener")
        try:
            # The listener brings the ledger to this version; and a taken port is said before anything else starts.
            while not ready.is_set() and not stop.is_set():
                ready.wait(0.1)
            if not stop.is_set():
                supervise(workers(options, settings), stop, grace_s=settings.limits.drain_s)
        finally:
            stop.set()
            listener.result()

"""What becomes of an association whose upper layer fails (PS3.8 9.2): ended on both sides, and said in the log.

Without this a thread of pynetdicom's would be dead, and its association only seem alive.
"""

from __future__ import annotations

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ABORT_RQ

from cauda.core import log, stack

_BY_PROVIDER, _NO_REASON = 0x02, 0x00


def failed(association: Association, error: Exception) -> None:
    """Abort towards the peer, close, and let the association's own thread end."""
    log.get("dimse").error("association_failed", stack=stack.of(error))
    wire = association.dul.socket
    if wire is not None:
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = _BY_PROVIDER, _NO_REASON
        wire.send(abort.encode())
        wire._shutdown_socket()  # noqa: SLF001  in data_path's SEAM
    association.is_aborted, association.is_established = True, False
    evt.trigger(association, evt.EVT_ABORTED, {})
    association._kill = True  # noqa: SLF001  in data_path's SEAM, as `kill`


def guarded(association: Association) -> None:
    """Let nothing that raises in the association's own thread leave it dead and the peer waiting.

    Negotiation does, for one, over a presentation context without an abstract syntax.
    """
    run = association.run  # bound to its reactor when it was made

    def guarded_run() -> None:
        try:
            run()
        except Exception as error:  # noqa: BLE001  the DIMSE border
            failed(association, error)
            association.dul.kill_dul()

    association.run = guarded_run  # type: ignore[method-assign]  # pynetdicom makes the object

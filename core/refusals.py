"""What each refusal of a peer means: the words for operators, what decides it, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from cauda.core.domain import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One reason why a connection or an association is refused."""

    answer: str  # what the peer receives
    words: str
    setting: str  # the key that changes it, or the command; empty where nothing does
    action: str  # what hospital IT does


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRefusal:
    """One reason why a received object is not stored; the status is in `errors.ANSWERS`."""

    words: str
    setting: str
    action: str
    passing: bool = False  # a later try may succeed


_CLOSED, _ALERT = "connection closed", "TLS alert, connection closed"
_PEERS = "peers"

PEER_REFUSALS: dict[Reason, Refusal] = {
    Reason.CALLING_AE_NOT_ALLOWED: Refusal(
        answer="A-ASSOCIATE-RJ 1/1/3; STOW-RS: 403", words="no rule allows this title from this address",
        setting=_PEERS, action="cauda peers allow TITLE@ADDRESS",
    ),
    Reason.ADDRESS_NOT_ALLOWED: Refusal(
        answer=_CLOSED, words="no rule allows this address; no title was read", setting=_PEERS,
        action="cauda peers allow ADDRESS, or TITLE@ADDRESS",
    ),
    Reason.CALLED_AE_UNKNOWN: Refusal(
        answer="A-ASSOCIATE-RJ 1/1/7", words="the sender calls another title than ours", setting="node.aet",
        action="set the called title on the sender to that of node.aet",
    ),
    Reason.TOO_MANY_ASSOCIATIONS: Refusal(
        answer="A-ASSOCIATE-RJ 2/3/2; STOW-RS: 503", words="as many associations are open as may be",
        setting="limits.max_associations, limits.max_associations_per_peer",
        action="nothing if the sender tries again; otherwise raise the limit, or that of the peer's rule",
    ),
    Reason.TOO_MANY_CONNECTIONS: Refusal(
        answer=_CLOSED, words="as many connections are open as may be, of this address or of callers nobody knows",
        setting="limits.max_associations", action="look for connections of this address that stay silent",
    ),
    Reason.ASSOCIATE_UNREADABLE: Refusal(
        answer="A-ASSOCIATE-RJ 1/2/1", words="the association request cannot be read", setting="",
        action="report it to the maker of the sender, with the log line association_rejected",
    ),
    Reason.EVEN_CONTEXT_ID: Refusal(
        answer="A-ASSOCIATE-RJ 1/2/1", words="a presentation context has an even ID (PS3.8 9.3.2.2: odd ones only)",
        setting="", action="report it to the maker of the sender",
    ),
    Reason.PROTOCOL_VERSION: Refusal(
        answer="A-ASSOCIATE-RJ 1/2/2", words="the request does not offer protocol version 1", setting="",
        action="report it to the maker of the sender",
    ),
    Reason.MAXIMUM_LENGTH: Refusal(
        answer="A-ASSOCIATE-RJ 1/2/1", words="the sender's Maximum Length is under 8 bytes: no message fits",
        setting="", action="set the maximum PDU length on the sender to 16384 or more, or to 0 (unlimited)",
    ),
    Reason.PDU_UNREADABLE: Refusal(
        answer="A-ABORT 2/0", words="what came on the association is no DICOM, or beyond what was negotiated",
        setting="limits.max_pdu_bytes", action="look at the log line peer_malformed; report it to the sender's maker",
    ),
    Reason.TOO_SLOW: Refusal(
        answer="A-ABORT 2/0", words="a message stopped, or came slower than 1 KiB/s", setting="limits.dimse_timeout_s",
        action="look at the network between the sender and this host",
    ),
    Reason.ASSOCIATION_TIMEOUT: Refusal(
        answer="connection closed", words="no association request came in time",
        setting="limits.acse_timeout_s",
        action="look for what stays silent on this port: a probe, a wrong protocol; or at the network",
    ),
    Reason.NOT_DICOM: Refusal(
        answer="A-ABORT, or connection closed; C-STORE and STOW-RS: C000", words="the first bytes are no DICOM",
        setting="node.port", action="find what calls this port: a scanner for weaknesses, a browser, a wrong port",
    ),
    Reason.TLS_ON_PLAIN_PORT: Refusal(
        answer="A-ABORT, or connection closed", words="TLS was spoken to the plain port", setting="tls.port",
        action="set the sender to the port of tls.port, or switch its TLS off",
    ),
    Reason.PLAIN_ON_TLS_PORT: Refusal(
        answer=_CLOSED, words="no TLS was spoken to the TLS port", setting="node.port",
        action="switch TLS on at the sender, or set it to the port of node.port",
    ),
    Reason.TOKEN_WRONG: Refusal(
        answer="STOW-RS: 401", words="the token of a STOW-RS sender is wrong", setting="dicomweb.token",
        action="give the sender the token",
    ),
    Reason.TOKEN_THROTTLED: Refusal(
        answer="STOW-RS: 429", words="too many wrong tokens came from this address", setting="dicomweb.token",
        action="give the sender the token, and wait as long as Retry-After says",
    ),
    Reason.PROXY_NOT_NAMED: Refusal(
        answer="STOW-RS: 403", words="the request came through a proxy that is not named",
        setting="http.trusted_proxies", action="name the proxy in http.trusted_proxies, if it is yours",
    ),
    Reason.TLS_CERTIFICATE_MISSING: Refusal(
        answer=_ALERT, words="the sender shows no certificate", setting="tls.ca",
        action="install a certificate on the sender, or unset tls.ca",
    ),
    Reason.TLS_CERTIFICATE_EXPIRED: Refusal(
        answer=_ALERT, words="the sender's certificate has expired", setting="",
        action="renew the certificate on the sender; check the clocks of both",
    ),
    Reason.TLS_CERTIFICATE_NOT_YET_VALID: Refusal(
        answer=_ALERT, words="the sender's certificate is not valid yet", setting="",
        action="check the clocks of the sender and of this host",
    ),
    Reason.TLS_CERTIFICATE_SELF_SIGNED: Refusal(
        answer=_ALERT, words="the sender's certificate is self-signed, and not in tls.ca", setting="tls.ca",
        action="add that very certificate to the file of tls.ca, or issue one by your authority",
    ),
    Reason.TLS_CERTIFICATE_PURPOSE: Refusal(
        answer=_ALERT, words="the sender's certificate is not issued for TLS clients", setting="",
        action="issue one whose Extended Key Usage has clientAuth",
    ),
    Reason.TLS_CERTIFICATE_WEAK: Refusal(
        answer=_ALERT, words="a key or digest in the sender's certificates is too weak", setting="",
        action="issue one with RSA of 2048 bits or more, or an elliptic curve, and SHA-256",
    ),
    Reason.TLS_CHAIN_INCOMPLETE: Refusal(
        answer=_ALERT, words="the sender's certificate leads to no authority in tls.ca", setting="tls.ca",
        action="install the intermediate certificates on the sender, or add their authority to the file of tls.ca",
    ),
    Reason.TLS_CERTIFICATE_INVALID: Refusal(
        answer=_ALERT, words="the sender's certificate fails another check", setting="tls.ca",
        action="look at the log line handshake_failed",
    ),
    Reason.TLS_OUR_CERTIFICATE_REFUSED: Refusal(
        answer=_CLOSED, words="the sender refuses our certificate", setting="tls.certificate",
        action="let the sender trust our authority; put our chain into the file of tls.certificate",
    ),
    Reason.TLS_VERSION: Refusal(
        answer=_ALERT, words="no common TLS version", setting="tls.minimum",
        action="let the sender speak TLS 1.2 or newer",
    ),
    Reason.TLS_NO_SHARED_CIPHER: Refusal(
        answer=_ALERT, words="no common cipher: ours are ECDHE with AES-GCM or ChaCha20 (RFC 9325)", setting="",
        action="enable such ciphers on the sender",
    ),
    Reason.TLS_TIMEOUT: Refusal(
        answer=_CLOSED, words="the TLS handshake did not end in time", setting="tls.handshake_timeout_s",
        action="look at the network, or for a sender that stays silent",
    ),
    Reason.TLS_FAILED: Refusal(
        answer=_ALERT, words="the TLS handshake failed for another reason", setting="",
        action="look at the log line handshake_failed",
    ),
    Reason.BUG: Refusal(
        answer="A-ASSOCIATE-RJ 2/2/1", words="an error of ours", setting="",
        action="report it, with the log line association_failed",
    ),
}  # fmt: skip
"""Every reason that stands in `cauda peers list`."""

OBJECT_REFUSALS: dict[Reason, ObjectRefusal] = {
    Reason.NO_ROOM: ObjectRefusal(
        words="free space is below the floor, or disk or quota is full", setting="limits.min_free_bytes", passing=True,
        action="make room; send again",
    ),
    Reason.DISK_FAILED: ObjectRefusal(
        words="the disk answers with an error", setting="data", passing=True,
        action="look at the disk and at cauda doctor; send again",
    ),
    Reason.LEDGER_DOWN: ObjectRefusal(
        words="the ledger is away", setting="ledger_url", passing=True, action="start the database; send again",
    ),
    Reason.TOO_LARGE: ObjectRefusal(
        words="the object is beyond a limit, which the comment names",
        setting="limits.max_object_bytes, or the key in the comment",
        action="raise that limit if the object is an honest one",
    ),
    Reason.SOP_CLASS_MISMATCH: ObjectRefusal(
        words="command and data set name different SOP classes", setting="",
        action="report it to the maker of the sender",
    ),
    Reason.UID_MISMATCH: ObjectRefusal(
        words="command and data set, or URL and data set, name different instances or studies", setting="",
        action="report it to the maker of the sender",
    ),
    Reason.SOP_CLASS_NOT_SUPPORTED: ObjectRefusal(
        words="the class was not negotiated in this presentation context", setting="",
        action="nothing: it is no part of grading",
    ),
    Reason.TRANSFER_SYNTAX_NOT_SUPPORTED: ObjectRefusal(
        words="the encoding is not kept", setting="", action="let the sender send it uncompressed",
    ),
    Reason.CALLING_AE_NOT_ALLOWED: ObjectRefusal(
        words="no rule allows this caller", setting=_PEERS, action="cauda peers allow TITLE@ADDRESS",
    ),
    Reason.NOT_DICOM: ObjectRefusal(
        words="no data set in the negotiated encoding, or an element without a VR that hides what follows", setting="",
        action="report it to the maker of the sender, with the comment",
    ),
    Reason.TRUNCATED: ObjectRefusal(
        words="the data set is cut short", setting="", action="send again; look at the sender's disk",
    ),
    Reason.UID_INVALID: ObjectRefusal(
        words="a UID that decides where it belongs is absent or none", setting="",
        action="report it to the maker of the sender",
    ),
    Reason.ELEMENT_TWICE: ObjectRefusal(
        words="a UID, or what says whose it is, occurs twice with two values", setting="",
        action="report it to the maker of the sender",
    ),
}  # fmt: skip
"""Every reason in `errors.ANSWERS`."""

"""Why a TLS handshake failed, as a reason of ours: OpenSSL says it in a code or in its own words."""

from __future__ import annotations

import ssl

from cauda.core.domain import Reason

# X509_V_ERR_* (openssl/x509_vfy.h) of the certificate that the caller showed
_VERIFY: dict[int, Reason] = {
    2: Reason.TLS_CHAIN_INCOMPLETE,  # no issuer certificate
    9: Reason.TLS_CERTIFICATE_NOT_YET_VALID,
    10: Reason.TLS_CERTIFICATE_EXPIRED,
    18: Reason.TLS_CERTIFICATE_SELF_SIGNED,
    19: Reason.TLS_CHAIN_INCOMPLETE,  # it ends in a root that tls.ca does not name
    20: Reason.TLS_CHAIN_INCOMPLETE,  # no issuer certificate here
    21: Reason.TLS_CHAIN_INCOMPLETE,  # the first certificate cannot be verified
    26: Reason.TLS_CERTIFICATE_PURPOSE,
    66: Reason.TLS_CERTIFICATE_WEAK,  # its key
    67: Reason.TLS_CERTIFICATE_WEAK,  # its authority's key
    68: Reason.TLS_CERTIFICATE_WEAK,  # its authority's digest
}
# beginnings of OpenSSL's reason, without the version that some bear
_WORDS: tuple[tuple[str, Reason], ...] = (
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", Reason.TLS_CERTIFICATE_MISSING),
    ("EE_KEY_TOO_SMALL", Reason.TLS_CERTIFICATE_WEAK),
    ("CA_KEY_TOO_SMALL", Reason.TLS_CERTIFICATE_WEAK),
    ("CA_MD_TOO_WEAK", Reason.TLS_CERTIFICATE_WEAK),
    ("UNSUPPORTED_PROTOCOL", Reason.TLS_VERSION),
    ("VERSION_TOO_LOW", Reason.TLS_VERSION),
    ("WRONG_VERSION_NUMBER", Reason.TLS_VERSION),
    ("WRONG_SSL_VERSION", Reason.TLS_VERSION),
    ("NO_PROTOCOLS_AVAILABLE", Reason.TLS_VERSION),
    ("NO_SHARED_CIPHER", Reason.TLS_NO_SHARED_CIPHER),
    ("NO_SUITABLE_KEY_SHARE", Reason.TLS_NO_SHARED_CIPHER),
    ("NO_SHARED_SIGNATURE_ALGORITHMS", Reason.TLS_NO_SHARED_CIPHER),
    ("NO_SHARED_GROUP", Reason.TLS_NO_SHARED_CIPHER),
)
# alerts by which the caller refuses our certificate (RFC 8446 6.2), and one by which it refuses our version
_ALERTS: tuple[tuple[str, Reason], ...] = (
    ("ALERT_PROTOCOL_VERSION", Reason.TLS_VERSION),
    ("ALERT_HANDSHAKE_FAILURE", Reason.TLS_NO_SHARED_CIPHER),
    ("ALERT_UNKNOWN_CA", Reason.TLS_OUR_CERTIFICATE_REFUSED),
    ("ALERT_BAD_CERTIFICATE", Reason.TLS_OUR_CERTIFICATE_REFUSED),
    ("ALERT_CERTIFICATE", Reason.TLS_OUR_CERTIFICATE_REFUSED),
    ("ALERT_UNSUPPORTED_CERTIFICATE", Reason.TLS_OUR_CERTIFICATE_REFUSED),
    ("ALERT_ACCESS_DENIED", Reason.TLS_OUR_CERTIFICATE_REFUSED),
    ("ALERT_DECRYPT_ERROR", Reason.TLS_OUR_CERTIFICATE_REFUSED),
)


def reason_of(error: Exception) -> Reason:
    """The reason for what a handshake raised."""
    if isinstance(error, TimeoutError):
        return Reason.TLS_TIMEOUT
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY.get(error.verify_code, Reason.TLS_CERTIFICATE_INVALID)
    words = str(getattr(error, "reason", None) or "")
    alert = next((reason for part, reason in _ALERTS if part in words), None)
    return alert or next((reason for start, reason in _WORDS if words.startswith(start)), Reason.TLS_FAILED)

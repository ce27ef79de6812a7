"""The client side of an archive (a PACS), in DIMSE and DICOMweb: C-FIND and QIDO-RS, C-STORE and STOW-RS, commitment.

Listener and worker import it, and so does deploy; it imports core alone.
"""

"""DICOM results made from a Report: Structured Report and Secondary Capture."""

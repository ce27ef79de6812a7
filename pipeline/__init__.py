"""A study's images in, findings and DICOM results out. Pure: no socket, disk, clock, environment or torch."""

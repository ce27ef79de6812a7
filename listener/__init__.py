"""The doors: DIMSE, DICOMweb and pages; landing, filing, completeness. Stands on core alone."""

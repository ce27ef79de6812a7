"""The doors: DIMSE, DICOMweb and pages; landing, filing, completeness. Imports core and archive alone."""

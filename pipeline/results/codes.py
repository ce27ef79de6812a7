"""Coded concepts of the results: DICOM's, SNOMED's, RADLEX's, and the few that are ours (99CAUDA)."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from cauda.core.domain import GradeScale, Level, Reason

PRIVATE = "99CAUDA"

# Document and template structure (PS3.16 TID 1500, 1501, 1410, 4019).
IMAGING_MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants")
ENGLISH = Code("en-US", "RFC5646", "English (United States)")
OBSERVER_TYPE = Code("121005", "DCM", "Observer Type")
DEVICE = Code("121007", "DCM", "Device")
DEVICE_UID = Code("121012", "DCM", "Device Observer UID")
DEVICE_NAME = Code("121013", "DCM", "Device Observer Name")
DEVICE_MANUFACTURER = Code("121014", "DCM", "Device Observer Manufacturer")
DEVICE_MODEL = Code("121015", "DCM", "Device Observer Model Name")
DEVICE_SERIAL = Code("121016", "DCM", "Device Observer Serial Number")
PROCEDURE_REPORTED = Code("121058", "DCM", "Procedure reported")
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group")
TRACKING_IDENTIFIER = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID = Code("112040", "DCM", "Tracking Unique Identifier")
FINDING = Code("121071", "DCM", "Finding")
FINDING_SITE = Code("363698007", "SCT", "Finding Site")
IMAGE_REGION = Code("111030", "DCM", "Image Region")
SOURCE = Code("260753009", "SCT", "Source")
SOURCE_OF_MEASUREMENT = Code("121112", "DCM", "Source of Measurement")
COMMENT = Code("121106", "DCM", "Comment")
ALGORITHM_NAME = Code("111001", "DCM", "Algorithm Name")
ALGORITHM_VERSION = Code("111003", "DCM", "Algorithm Version")
ALGORITHM_PARAMETERS = Code("111002", "DCM", "Algorithm Parameters")
ALGORITHM_MANUFACTURER = Code("122405", "DCM", "Algorithm Manufacturer")
ALGORITHM_FAMILY = Code("111000", "DCM", "Algorithm Family")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
KEY_OBJECT_DESCRIPTION = Code("113012", "DCM", "Key Object Description")

# What is found, and where.
SPINAL_CANAL = Code("61853006", "SCT", "Vertebral canal")
STENOSIS = Code("415582006", "SCT", "Stenosis")
SEVERITY = Code("246112005", "SCT", "Severity")
UNDETERMINED = Code("373068000", "SCT", "Undetermined")
PROBABILITY = Code("122157", "DCM", "Probability")
NO_UNITS = Code("1", "UCUM", "no units")
DISCS = {
    Level.L1_L2: Code("80064006", "SCT", "L1/L2 disc"),
    Level.L2_L3: Code("67459009", "SCT", "L2/L3 disc"),
    Level.L3_L4: Code("62551000", "SCT", "L3/L4 disc"),
    Level.L4_L5: Code("84020006", "SCT", "L4/L5 disc"),
    Level.L5_S1: Code("715056000", "SCT", "L5/S1 disc"),
}
SERIES_QUALITY = Code("130550", "DCM", "Imaging Series Quality")
DIAGNOSTIC = Code("RID12", "RADLEX", "Diagnostic quality")
LIMITED = Code("RID13", "RADLEX", "Limited quality")
NON_DIAGNOSTIC = Code("RID14", "RADLEX", "Non-diagnostic quality")

# Ours.
CANAL_ASSESSMENT = Code("CANAL_ASSESSMENT", PRIVATE, "Spinal canal assessment")
IMAGE_QUALITY = Code("IMAGE_QUALITY", PRIVATE, "Image quality assessment")
NORMAL_MILD = Code("NORMAL_MILD", PRIVATE, "Normal or mild")
ALSO_POSSIBLE = Code("ALSO_POSSIBLE", PRIVATE, "Grade also possible")
NOT_GRADED = Code("NOT_GRADED", PRIVATE, "Reason for not grading")
NUMBERING = Code("NUMBERING", PRIVATE, "How levels were counted")
NUMBERING_DOUBT = Code("NUMBERING_DOUBT", PRIVATE, "Reason for doubt about numbering")
LIMITATIONS = Code("LIMITATIONS", PRIVATE, "Limitations")
LEVEL = Code("LEVEL", PRIVATE, "Level")
NOISE_SSIM = Code("NOISE_SSIM", PRIVATE, "SSIM of slice and its denoised self")
CONTINUITY_SSIM = Code("CONTINUITY_SSIM", PRIVATE, "SSIM of slice and its neighbors")
TEMPLATE_SSIM = Code("TEMPLATE_SSIM", PRIVATE, "SSIM of crop and the level's template")

_GRADES = {
    GradeScale.RSNA_3: {
        "Normal/Mild": NORMAL_MILD,
        "Moderate": Code("6736007", "SCT", "Moderate"),
        "Severe": Code("24484000", "SCT", "Severe"),
    },
}


def grade_code(scale: GradeScale, grade: str) -> Code:
    """The code of a grade; RSNA's mildest class is two grades in one, and Schizas' letters have no code."""
    if scale in _GRADES:
        return _GRADES[scale][grade]
    return Code(f"SCHIZAS_{grade}", PRIVATE, f"Schizas {grade}")


def reason_code(reason: Reason) -> Code:
    """The code of a reason: its own word, with its text as the meaning."""
    return Code(reason.value.upper(), PRIVATE, reason.text[:64])


def coded(code: Code) -> Dataset:
    """A code sequence item (PS3.3 8.8)."""
    item = Dataset()
    if len(code.value) > 16:  # the length of an SH
        item.LongCodeValue = code.value
    else:
        item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def private_scheme() -> Dataset:
    """Says whose 99CAUDA is (Coding Scheme Identification Sequence)."""
    item = Dataset()
    item.CodingSchemeDesignator = PRIVATE
    item.CodingSchemeName = "Cauda: grades, reasons and quality measures"
    item.CodingSchemeResponsibleOrganization = "Cauda project"
    return item

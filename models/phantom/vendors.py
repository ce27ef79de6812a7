"""How six makers' scanners name and describe what they send; facts of their headers, for phantom studies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """One maker's dialect."""

    manufacturer: str
    model: str
    software: str
    localizer: str
    sagittal_t1: str
    sagittal_t2: str
    axial_t2: str
    study: str
    sequence_t2: str
    private_creator: str
    character_set: str = "ISO_IR 100"


VENDORS: dict[str, Vendor] = {
    "siemens": Vendor(
        manufacturer="SIEMENS", model="MAGNETOM Aera", software="syngo MR E11", localizer="localizer",
        sagittal_t1="t1_tse_sag", sagittal_t2="t2_tse_sag", axial_t2="t2_tse_tra", study="LWS nativ",
        sequence_t2="*tse2d1_17", private_creator="SIEMENS MR HEADER",
    ),
    "ge": Vendor(
        manufacturer="GE MEDICAL SYSTEMS", model="Optima MR450w", software="DV25.1_R04", localizer="3-pl T2* FGRE S",
        sagittal_t1="Sag T1 FSE", sagittal_t2="Sag T2 frFSE", axial_t2="Ax T2 frFSE", study="MRI LUMBAR SPINE W/O",
        sequence_t2="FSE-XL", private_creator="GEMS_PARM_01",
    ),
    "philips": Vendor(
        manufacturer="Philips Medical Systems", model="Ingenia", software="5.1.7", localizer="Survey",
        sagittal_t1="T1W_TSE SAG", sagittal_t2="T2W_TSE SAG", axial_t2="T2W_TSE TRA", study="IRM rachis lombaire",
        sequence_t2="TSE", private_creator="Philips Imaging DD 001",
    ),
    "canon": Vendor(
        manufacturer="CANON_MEC", model="Vantage Orian", software="V6.0", localizer="Locator",
        sagittal_t1="T1 SAG FSE", sagittal_t2="T2 SAG FSE", axial_t2="T2 AX FSE", study="L-SPINE",
        sequence_t2="FSE2D", private_creator="TOSHIBA_MEC_MR3",
    ),
    "uih": Vendor(
        manufacturer="UIH", model="uMR 780", software="uMR R008", localizer="scout",
        sagittal_t1="t1_fse_sag", sagittal_t2="t2_fse_sag", axial_t2="t2_fse_tra", study="L-Spine",
        sequence_t2="fse", private_creator="Image Private Header",
    ),
    "hitachi": Vendor(
        manufacturer="Hitachi Medical Corporation", model="ECHELON OVAL", software="V5.1", localizer="Scanogram",
        sagittal_t1="SAG T1 FSE", sagittal_t2="SAG T2 FSE", axial_t2="AX T2 FSE", study="LUMBAR",
        sequence_t2="FSE", private_creator="0019-HITACHI MEDICAL",
    ),
}  # fmt: skip

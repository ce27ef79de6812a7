"""Six makers' scanners: facts of their headers, as seen in public files, for phantom studies in six languages."""

from __future__ import annotations

from pydicom.uid import ImplicitVRLittleEndian, JPEGLosslessSV1

from cauda.models.phantom.kinds import Kind, Pulse
from cauda.models.phantom.looks import Look
from cauda.models.phantom.vendor import Private, Tags, Vendor


def _descriptions(*texts: str) -> dict[Kind, str]:
    return dict(zip(Kind, texts, strict=True))


def _derived(rest: dict[Kind, tuple[str, ...]]) -> dict[Kind, tuple[str, ...]]:
    return {kind: ("DERIVED", *parts) for kind, parts in rest.items()}


_SIEMENS = Vendor(
    look=Look(noise=0.4, blur=0.6, coil=0.65),  # as SPIDER's Avanto_fit, docs/realism.md
    manufacturer="SIEMENS", model="MAGNETOM Aera", software=("syngo MR E11",), study="LWS nativ",
    descriptions=_descriptions(
        "localizer", "t2_tse_sag", "t1_tse_sag", "t2_tirm_sag", "t2_tse_tra", "t1_tse_tra", "t2_tse_dixon_sag_W",
        "t2_tse_dixon_sag_F", "t2_tse_dixon_sag_in", "t2_tse_dixon_sag_opp", "t2_spc_sag_iso",
        "t2_spc_sag_iso_MPR_tra", "t1_tse_fs_sag nach KM Übersicht",
    ),
    pulses={
        Pulse.SPIN_ECHO: Tags(sequence=("SE",), variant=("SK", "SP", "OSP"), options=("SAT1", "PFP"),
                              name="*tse2d1_17", image_type=("M", "NORM", "DIS2D")),
        Pulse.INVERSION: Tags(sequence=("SE", "IR"), variant=("SK", "SP", "MP"), options=("IR", "PFP"),
                              name="*tir2d1_15", image_type=("M", "NORM", "DIS2D")),
        Pulse.GRADIENT: Tags(sequence=("GR",), variant=("SP", "OSP"), options=("PFP",), name="*fl2d1",
                             image_type=("M", "NORM", "DIS2D")),
        Pulse.DIXON: Tags(sequence=("SE",), variant=("SK", "SP"), options=("PFP",), name="*tseD2d1_17",
                          image_type=("M",)),
        Pulse.VOLUME: Tags(sequence=("SE",), variant=("SK", "SP"), options=("PER", "PFP"), name="*spcR_314ns",
                           image_type=("M", "NORM", "DIS3D")),
    },
    image_types=_derived({
        Kind.DIXON_WATER: ("PRIMARY", "DIXON", "WATER"), Kind.DIXON_FAT: ("PRIMARY", "DIXON", "FAT"),
        Kind.DIXON_IN: ("PRIMARY", "DIXON", "IN_PHASE"), Kind.DIXON_OPPOSED: ("PRIMARY", "DIXON", "OPP_PHASE"),
        Kind.SPACE_AXIAL: ("SECONDARY", "MPR", "NORM", "DIS3D"),
    }),
    significant=13, coil="Spine_24", station="AWP45678",
    private=(
        Private(group=0x0019, creator="SIEMENS MR HEADER", element=0x08, vr="CS", value="IMAGE NUM 4"),
        Private(group=0x0019, creator="SIEMENS MR HEADER", element=0x09, vr="LO", value="1.0"),
        Private(group=0x0019, creator="SIEMENS MR HEADER", element=0x18, vr="IS", value="5200"),
        Private(group=0x0029, creator="SIEMENS CSA HEADER", element=0x08, vr="CS", value="IMAGE NUM 4"),
        Private(group=0x0029, creator="SIEMENS CSA HEADER", element=0x10, vr="OB", value=b"SV10\x04\x03\x02\x01" * 8),
        Private(group=0x0029, creator="SIEMENS MEDCOM HEADER2", element=0x60, vr="LO", value="com"),
        Private(group=0x0051, creator="SIEMENS MR HEADER", element=0x0B, vr="LO", value="{rows}*{columns}s"),
        Private(group=0x0051, creator="SIEMENS MR HEADER", element=0x0C, vr="LO", value="FoV {field}*{field}"),
        Private(group=0x0051, creator="SIEMENS MR HEADER", element=0x0E, vr="LO", value="{short}"),
        Private(group=0x0051, creator="SIEMENS MR HEADER", element=0x17, vr="SH", value="SL {thickness}"),
    ),
    companions=("enhanced_report",),
)  # fmt: skip

_GE = Vendor(
    manufacturer="GE MEDICAL SYSTEMS", model="Optima MR450w",
    software=("27", "LX", "MR Software release:DV25.1_R04_1649.a"), study="MR kręgosłupa lędźwiowego",
    character_set=("ISO_IR 192",),
    descriptions=_descriptions(
        "3-Plane Loc SSFSE", "Sag T2 frFSE", "Sag T1 FSE", "Sag STIR", "Ax T2 frFSE", "Ax T1 FSE",
        "WATER: Sag T2 Flex", "FAT: Sag T2 Flex", "InPhase: Sag T2 Flex", "OutPhase: Sag T2 Flex", "Sag CUBE T2",
        "Ax CUBE T2 Reformat", "Sag T1 FSE FS +C",
    ),
    exam_protocol="L SPINE ROUTINE",
    pulses={
        Pulse.SPIN_ECHO: Tags(sequence=("SE",), variant=("SK", "OSP"), image_type=("OTHER",),
                              options=("FAST_GEMS", "NPW", "TRF_GEMS", "FILTERED_GEMS")),
        Pulse.INVERSION: Tags(sequence=("SE", "IR"), variant=("SK",), options=("FAST_GEMS", "NPW"),
                              image_type=("OTHER",)),
        Pulse.GRADIENT: Tags(sequence=("GR",), variant=("SS", "SK"), options=("FAST_GEMS", "SEQ_GEMS"),
                             image_type=("OTHER",)),
        Pulse.DIXON: Tags(sequence=("SE",), variant=("SK",), options=("FAST_GEMS", "NPW", "FLEX_GEMS"),
                          image_type=("DIXON",)),
        Pulse.VOLUME: Tags(sequence=("SE",), variant=("SK",), options=("FAST_GEMS", "NPW", "TRF_GEMS"),
                           image_type=("OTHER",)),
    },
    image_types=_derived({
        Kind.DIXON_WATER: ("PRIMARY", "DIXON", "WATER"), Kind.DIXON_FAT: ("PRIMARY", "DIXON", "FAT"),
        Kind.DIXON_IN: ("PRIMARY", "DIXON", "IN_PHASE"), Kind.DIXON_OPPOSED: ("PRIMARY", "DIXON", "OUT_PHASE"),
        Kind.SPACE_AXIAL: ("SECONDARY", "REFORMATTED", "AVERAGE"),
    }),
    echo_factor=1.0155, significant=6, backwards=frozenset({"sagittal"}), bits=16, signed=True,
    agent="GADAVIST", coil="CTL456", station="GEMR1",
    private=(
        Private(group=0x0009, creator="GEMS_IDEN_01", element=0x02, vr="SH", value="MR01"),
        Private(group=0x0009, creator="GEMS_IDEN_01", element=0x04, vr="SH", value="SIGNA"),
        Private(group=0x0019, creator="GEMS_ACQU_01", element=0x1E, vr="DS", value="{field}.000000"),
        Private(group=0x0019, creator="GEMS_ACQU_01", element=0x9C, vr="LO", value="fse-xl"),
        Private(group=0x0019, creator="GEMS_ACQU_01", element=0x9E, vr="LO", value="FSE-XL"),
        Private(group=0x0021, creator="GEMS_RELA_01", element=0x37, vr="SS", value=17),
        Private(group=0x0025, creator="GEMS_SERS_01", element=0x07, vr="SL", value=15),
        Private(group=0x0027, creator="GEMS_IMAG_01", element=0x40, vr="SH", value="I"),
        Private(group=0x0043, creator="GEMS_PARM_01", element=0x01, vr="SS", value=4),
    ),
    companions=("capture", "key_objects"),
)  # fmt: skip

_PHILIPS = Vendor(
    look=Look(acquired=0.66, coil=2.0, band=False),  # as SPIDER's Ingenia
    manufacturer="Philips Medical Systems", model="Ingenia", software=("5.1.7", "5.1.7.2"),
    study="МРТ пояснично-крестцового отдела", character_set=("ISO_IR 144",),
    descriptions=_descriptions(
        "Survey", "T2W_TSE SAG", "T1W_TSE SAG", "STIR_longTE SAG", "T2W_TSE TRA", "T1W_TSE TRA",
        "T2W_mDIXON_TSE SAG", "T2W_mDIXON_TSE SAG", "T2W_mDIXON_TSE SAG", "T2W_mDIXON_TSE SAG", "VISTA_T2 SAG",
        "VISTA_T2 MPR TRA", "T1W_SPIR SAG с контрастом",
    ),
    pulses={
        Pulse.SPIN_ECHO: Tags(sequence=("SE",), variant=("SK",), options=("FC",), name="TSE",
                              image_type=("M_SE", "M", "SE")),
        Pulse.INVERSION: Tags(sequence=("IR",), variant=("SK",), options=("OTHER",), name="TIR",
                              image_type=("M_IR", "M", "IR")),
        Pulse.GRADIENT: Tags(sequence=("GR",), variant=("MP",), options=("OTHER",), name="TFE",
                             image_type=("M_FFE", "M", "FFE")),
        Pulse.DIXON: Tags(sequence=("SE",), variant=("SK",), options=("OTHER",), name="TSE"),
        Pulse.VOLUME: Tags(sequence=("SE",), variant=("SK",), options=("OTHER",), name="TSE",
                           image_type=("M_SE", "M", "SE")),
    },
    image_types=_derived({
        Kind.DIXON_WATER: ("PRIMARY", "W", "W", "DERIVED"), Kind.DIXON_FAT: ("PRIMARY", "F", "F", "DERIVED"),
        Kind.DIXON_IN: ("PRIMARY", "IP", "IP", "DERIVED"), Kind.DIXON_OPPOSED: ("PRIMARY", "OP", "OP", "DERIVED"),
        Kind.SPACE_AXIAL: ("SECONDARY", "MPR"),
    }),
    echo_factor=0.98, significant=14, numbered_by_100=True, dixon_together=True, slope=1.54798534798534,
    agent="Gadovist", coil="MULTI COIL", station="PHILIPS-QK1",
    private=(
        Private(group=0x2001, creator="Philips Imaging DD 001", element=0x01, vr="FL", value=0.0),
        Private(group=0x2001, creator="Philips Imaging DD 001", element=0x0A, vr="IS", value="{place}"),
        Private(group=0x2001, creator="Philips Imaging DD 001", element=0x0B, vr="CS", value="{long}"),
        Private(group=0x2001, creator="Philips Imaging DD 001", element=0x14, vr="SL", value=1),
        Private(group=0x2001, creator="Philips Imaging DD 001", element=0x20, vr="LO", value="TSE"),
        Private(group=0x2005, creator="Philips MR Imaging DD 001", element=0x0D, vr="FL", value=0.0),
        Private(group=0x2005, creator="Philips MR Imaging DD 001", element=0x0E, vr="FL", value=0.0169),
        Private(group=0x2005, creator="Philips MR Imaging DD 005", element=0x02, vr="UL", value=1),
    ),
    companions=("presentation",),
)  # fmt: skip

_CANON = Vendor(
    manufacturer="CANON_MEC", model="Vantage Orian", software=("V6.0SP2000*",), study="腰椎MRI単純",
    character_set=("", "ISO 2022 IR 87"), patient="PHANTOM^CAUDA=模型^馬尾=もけい^ばび",
    descriptions=_descriptions(
        "位置決め", "T2 SAG FSE", "T1 SAG FSE", "STIR SAG", "T2 AX FSE", "T1 AX FSE", "T2 SAG WFS Water",
        "T2 SAG WFS Fat", "T2 SAG WFS In-phase", "T2 SAG WFS Out-phase", "T2 SAG 3D MPV", "T2 AX 3D MPV MPR",
        "造影 T1 SAG FatSat",
    ),
    pulses={
        Pulse.SPIN_ECHO: Tags(sequence=("SE",), variant=("SK",), options=("PFP", "NONE", "S2_0"), name="FSE2D+15",
                              image_type=("GDC",)),
        Pulse.INVERSION: Tags(sequence=("IR",), variant=("SK",), options=("NONE",), name="FIR2D+9",
                              image_type=("GDC",)),
        Pulse.GRADIENT: Tags(sequence=("GR",), variant=("SP",), options=("NONE",), name="FE2D", image_type=("OTHER",)),
        Pulse.DIXON: Tags(sequence=("SE",), variant=("SK",), options=("NONE",), name="FSE2D+15", image_type=("WFS",)),
        Pulse.VOLUME: Tags(sequence=("SE",), variant=("SK",), options=("NONE",), name="FSE3D+80", image_type=("GDC",)),
    },
    image_types=_derived({
        Kind.DIXON_WATER: ("PRIMARY", "WFS", "WATER"), Kind.DIXON_FAT: ("PRIMARY", "WFS", "FAT"),
        Kind.DIXON_IN: ("PRIMARY", "WFS", "IN"), Kind.DIXON_OPPOSED: ("PRIMARY", "WFS", "OUT"),
        Kind.SPACE_AXIAL: ("SECONDARY", "MPR"),
    }),
    echo_factor=1.03, fixed=8, backwards=frozenset({"axial"}), bits=16, signed=True, slope=1.0, coil="Spine SPEEDER",
    syntax=JPEGLosslessSV1, station="VANTAGE1",
    private=(
        Private(group=0x700D, creator="CANON_MEC_MR3", element=0x05, vr="DS", value=["0.240", "0.240"]),
        Private(group=0x700D, creator="CANON_MEC_MR3", element=0x0C, vr="CS", value="Y"),
    ),
    companions=("capture",),
)  # fmt: skip

_UIH = Vendor(
    manufacturer="UIH", model="uMR 780", software=("uMR R008",), study="腰椎平扫", character_set=("GB18030",),
    patient="PHANTOM^CAUDA=模型^马尾",
    descriptions=_descriptions(
        "scout", "t2_fse_sag", "t1_fse_sag", "t2_fse_stir_sag", "t2_fse_tra", "t1_fse_tra", "t2_fse_wfi_sag_W",
        "t2_fse_wfi_sag_F", "t2_fse_wfi_sag_IP", "t2_fse_wfi_sag_OP", "t2_matrix_sag_3d", "t2_matrix_sag_3d_MPR_tra",
        "增强 t1_fse_sag_fs",
    ),
    pulses={
        Pulse.SPIN_ECHO: Tags(sequence=("SE",), variant=("SK", "SP"), name="fse", image_type=("M",)),
        Pulse.INVERSION: Tags(sequence=("SE", "IR"), variant=("SK",), name="fse_stir", image_type=("M",)),
        Pulse.GRADIENT: Tags(sequence=("GR",), variant=("SP",), name="gre_scout", image_type=("M",)),
        Pulse.DIXON: Tags(sequence=("SE",), variant=("SK",), name="fse_wfi", image_type=("M",)),
        Pulse.VOLUME: Tags(sequence=("SE",), variant=("SK",), name="fse_mx_3d", image_type=("M",)),
    },
    image_types=_derived({
        Kind.DIXON_WATER: ("PRIMARY", "M", "WFI", "WATER"), Kind.DIXON_FAT: ("PRIMARY", "M", "WFI", "FAT"),
        Kind.DIXON_IN: ("PRIMARY", "M", "WFI", "IN"), Kind.DIXON_OPPOSED: ("PRIMARY", "M", "WFI", "OUT"),
        Kind.SPACE_AXIAL: ("SECONDARY", "M", "MPR"),
    }),
    echo_factor=0.9636, significant=9, bits=16, coil="SPINE24", station="UIHMR",
    private=(
        Private(group=0x0061, creator="DB Dicom Private Creator", element=0x02, vr="US", value=1),
        Private(group=0x0065, creator="Image Private Header", element=0x02, vr="LO", value="{short}"),
        Private(group=0x0065, creator="Image Private Header", element=0x04, vr="SH", value="{rows}*{columns}"),
        Private(group=0x0065, creator="Image Private Header", element=0x18, vr="LO", value="First Level"),
        Private(group=0x0065, creator="Image Private Header", element=0x25, vr="DS", value="0.7"),
    ),
    companions=("report",),
)  # fmt: skip

_HITACHI = Vendor(
    manufacturer="Hitachi Medical Corporation", model="ECHELON OVAL", software=("V5.1C",),
    study="IRM du rachis lombaire dégénératif", character_set=("ISO_IR 100",),
    descriptions=_descriptions(
        "Scanogram", "SAG T2 FSE", "SAG T1 SE", "SAG STIR", "AX T2 FSE", "AX T1 SE", "SAG T2 FatSep Eau",
        "SAG T2 FatSep Graisse", "SAG T2 FatSep en phase", "SAG T2 FatSep opposition de phase", "SAG T2 isoFSE",
        "AX T2 isoFSE MPR", "SAG T1 FS après injection",
    ),
    pulses={
        Pulse.SPIN_ECHO: Tags(sequence=("SE",), variant=("SK",), name="FSE", image_type=("OTHER",)),
        Pulse.INVERSION: Tags(sequence=("IR",), variant=("SK",), name="FIR", image_type=("OTHER",)),
        Pulse.GRADIENT: Tags(sequence=("GR",), variant=("NONE",), name="GE", image_type=("OTHER",)),
        Pulse.DIXON: Tags(sequence=("SE",), variant=("SK",), name="FSE", image_type=("OTHER",)),
        Pulse.VOLUME: Tags(sequence=("SE",), variant=("SK",), name="isoFSE", image_type=("OTHER",)),
    },
    image_types=_derived({Kind.SPACE_AXIAL: ("SECONDARY", "OTHER")}),
    echo_factor=1.08, significant=7, own_frame=True, bits=16, coil="SPINE", syntax=ImplicitVRLittleEndian,
    station="ECHELON", agent="DOTAREM",
    private=(Private(group=0x0019, creator="0019-HITACHI MEDICAL", element=0x08, vr="LO", value="FSE"),),
    companions=("key_objects",),
)  # fmt: skip

VENDORS: dict[str, Vendor] = {
    "siemens": _SIEMENS,
    "ge": _GE,
    "philips": _PHILIPS,
    "canon": _CANON,
    "uih": _UIH,
    "hitachi": _HITACHI,
}

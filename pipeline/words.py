"""Words of protocols and descriptions, as scanners and technologists write them in several languages.

Patterns are matched on folded text (lower case, no accents, separators as blanks). Scripts that set no blanks between
words are looked for anywhere in it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from cauda.core.domain import Reason


def folded(text: str) -> str:
    """Lower case, accents removed, everything but letters, digits and + turned into single blanks."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(re.sub(r"[^\w+]|_", " ", plain).split())


def _words(*alternatives: str, anywhere: Sequence[str] = ()) -> re.Pattern[str]:
    """Whole words as patterns, and texts ``anywhere``, even within a word."""
    parts = [r"(?<!\w)(?:" + "|".join(alternatives) + r")(?!\w)", *(re.escape(folded(text)) for text in anywhere)]
    return re.compile("|".join(parts))


T2 = _words(r"t2w?", r"stir", r"tirm", r"t2[a-z]{0,4}", r"frfse", r"t ?2", r"т ?2\w{0,4}")
T1 = _words(r"t1w?", r"t1[a-z]{0,5}", r"t ?1", r"т ?1\w{0,4}")
STIR = _words("stir", "tirm", r"t2 ?ir")
PROTON_DENSITY = _words(r"pd", r"pdw", r"dp", r"proton\w*", r"rho")
LOCALIZER = _words(
    "loc", r"localis\w*", r"localiz\w*", r"lokali\w*", "scout", "survey", "topogram\\w*", "planning", "pilot",
    r"3 ?p(?:lane|l)?(?: loc\w*)?", "scano", "reperage", "localizador", "centratore", "smartbrain", "calibration",
    "asset cal", "aahscout", r"przegladowka", "plaatsbepaling",
    "locator", r"локал\w*", r"обзор\w*", anywhere=("位置決め", "定位"),
)  # fmt: skip
DIFFUSION = _words("dwi", "adc", "dti", r"diff\w*", r"resolve", "tracew", r"b ?\d{3,4}", "ep2d", "difusion", "ivim")
GRADIENT_ECHO = _words(
    "gre", r"flash\d?d?", "medic", "merge", "fgre", "spgr", "vibe", "lava", "thrive", "fiesta", "trufi", "ciss",
    "bffe", "b ffe", "ffe", "mffe", "fl[23]d", "t2 star", "t2star", "swi", "dess", "fisp", "true ?fisp", "cosmic",
    "gradient", "gradientenecho", "echo de gradient",
)  # fmt: skip
MYELOGRAPHY = _words("haste", r"myelo\w*", r"mielo\w*", "ssfse", "ss fse", "ssh", "ss tse", "mrcp", "urogra\\w*")
FAT_SUPPRESSED = _words(
    "fs", r"fat ?sat\w*", r"fatsup\w*", "spair", "spir", "fettges", r"fettsupp\w*", "fsat", "dixon w", "water",
    "ideal w", "sat gras\\w*", "saturacion grasa", "soppressione", "we", "chemsat", "fss", r"жироподавл\w*",
    anywhere=("脂肪抑制", "压脂", "抑脂"),
)  # fmt: skip
# Dixon sequences make four pictures of one acquisition. Fat alone and opposed phase show no canal worth grading.
DIXON = _words(r"m?dixon", "flex", "ideal", "wfs", "wfi", "fatsep", "in ?phase", "out ?phase")
FAT_PART = _words("f", "fat(?! ?sat)", "fett", "graisse", "grasa", "grasso")
OPPOSED_PART = _words("op", "opp", "out", "opposed")
OPPOSED_PHASE = _words("opp(?:osed)? ?phase", "out ?(?:of ?)?phase", "opposition de phase", "gegenphase")
DIXON_TYPES = {"FAT", "F", "OP", "OPP_PHASE", "OPPOSED_PHASE", "OUT_PHASE", "OUT_OF_PHASE"}  # in Image Type
CONTRAST = _words(
    r"\w*\+ ?c", "gd", "gado\\w*", "post ?gd", "post ?contrast", "postkontrast", "contrast", "kontrast", "km", "mit km",
    "nach km", "c\\+", "contraste", "con contraste", "post c", "avec gado", "iv contrast", "mdc", "contrasto",
    "dotarem", "gadovist", "clariscan", "prohance", "inj", "apres injection",
    r"с контраст\w*", r"контраст\w*", anywhere=("造影", "增强", "増強"),
)  # fmt: skip
NO_CONTRAST = _words(
    "no contrast", "without(?: iv)? contrast", "wo contrast", "ohne km", "nativ", "sin contraste",
    "sans injection", "senza mdc", "non contrast", "w o contrast", "pre contrast", "none", "no",
    r"без контраст\w*", anywhere=("非造影", "未增强"),
)  # fmt: skip
INTERVENTIONAL = _words(
    r"intervention\w*", r"biops\w*", r"punk?tion\w*", r"infiltrat\w*", r"infiltration", "guided", "needle",
    r"ablat\w*", r"periradik\w*", "prt", "injection guidee", "infiltracion", "intraop\\w*", "drainage",
)  # fmt: skip
UPRIGHT = _words("upright", "standing", "weight ?bearing", "stehend", "debout", "de pie", "positional")

# CLINICAL.md 5: other exams hold L4-S1 too. Each reads: what the exam is called. A site may add its own words.
DENIED_EXAMS = _words(
    r"pelvi\w*", "becken\\w*", "bassin", "bacino", "si joints?", "sacro ?iliac\\w*", "isg", r"iliosakral\w*",
    "sacro ?iliaque\\w*", r"abdom\w*", r"prostat\w*", r"entero\w*", "sellink", "rectum", "rektum", "uter\\w*", "liver",
    "kidney\\w*", "renal", "hips?", "hufte", "anca", "hanche", "fetal", "fetus", r"placent\w*", "whole ?body",
    r"\w* ?таза", r"брюшн\w*", anywhere=("骨盤", "骨盆", "前立腺", "前列腺", "腹部"),
)  # fmt: skip
# The exam was ordered for another region. Lumbar words in the same text overrule it (whole spine, "C and L spine").
OTHER_REGION = _words(
    r"brain", r"head", r"schadel\w*", "kopf", "cerebr\\w*", "cran\\w*", r"neck", r"hals", "cou", "orbit\\w*",
    r"c ?spine", "cspine", "hws", r"cervic\w*", "zervikal\\w*", r"t ?spine", "tspine", "bws", r"thora\w*", "torac\\w*",
    "dorsal\\w*", "chest", "breast", "mamm\\w*", "heart", "cardi\\w*", "herz", r"knee", "knie", "genou", "rodilla",
    "shoulder", "schulter", "epaule", "ankle", "foot", "hand", "wrist", "elbow", "phantom", "extremity", "fmri",
    r"шейн\w*", r"грудн\w*", r"головн\w*", anywhere=("頚椎", "頸椎", "颈椎", "胸椎", "頭部", "颅脑", "膝"),
)  # fmt: skip
LUMBAR = _words(
    r"l ?spine", "lspine", "lws", r"\w*lumb\w*", r"\w*lomb\w*", r"ls ?spine", r"tl ?spine",
    r"ganze wirbelsaule", "gws", "rachis entier", r"(?:whole|total|full) ?spine",
    r"lende\w*", r"landryg\w*", r"ledzw\w*", "bederni",
    r"пояснич\w*", anywhere=("腰椎", "腰仙"),
)  # fmt: skip

SERIES_WORDS: tuple[tuple[Reason, re.Pattern[str]], ...] = (
    (Reason.LOCALIZER, LOCALIZER),
    (Reason.DIFFUSION, DIFFUSION),
    (Reason.MYELOGRAPHY, MYELOGRAPHY),
    (Reason.GRADIENT_ECHO, GRADIENT_ECHO),
)

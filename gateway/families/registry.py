"""Every family of models there is. The order is that of preference where nothing else decides."""

from collections.abc import Mapping

from gateway.families.family import Family
from gateway.families.lyria2 import Lyria2
from gateway.families.lyria3 import lyria3_clip, lyria3_pro
from gateway.families.musicgen import MusicGen
from gateway.model import ModelKind

FAMILIES: Mapping[ModelKind, Family] = {
    family.traits.kind: family
    for family in (
        MusicGen(),
        lyria3_clip(),
        lyria3_pro(),
        Lyria2(),
    )
}

#: Their names.
KINDS: tuple[ModelKind, ...] = tuple(FAMILIES)

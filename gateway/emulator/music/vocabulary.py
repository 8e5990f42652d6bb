"""What words in a prompt mean. Data only; `plan` applies it."""

from collections.abc import Mapping

#: Instruments by name: the voice, and the roles it takes, best first. Longer names are read first.
INSTRUMENTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "felt piano": ("felt_piano", ("comp", "lead", "arp")),
    "soft piano": ("felt_piano", ("comp", "lead", "arp")),
    "electric piano": ("electric_piano", ("comp", "lead")),
    "rhodes": ("electric_piano", ("comp", "lead")),
    "wurlitzer": ("electric_piano", ("comp", "lead")),
    "keys": ("electric_piano", ("comp", "lead")),
    "piano": ("piano", ("lead", "comp", "arp")),
    "harpsichord": ("koto", ("comp", "lead")),
    "acoustic guitar": ("steel_guitar", ("comp", "lead", "arp")),
    "classical guitar": ("nylon_guitar", ("comp", "lead", "arp")),
    "nylon guitar": ("nylon_guitar", ("comp", "lead", "arp")),
    "spanish guitar": ("nylon_guitar", ("lead", "comp")),
    "flamenco guitar": ("nylon_guitar", ("lead", "comp")),
    "ukulele": ("nylon_guitar", ("comp", "lead")),
    "distorted guitar": ("distorted_guitar", ("comp",)),
    "distorted electric guitar": ("distorted_guitar", ("comp",)),
    "heavy guitar": ("distorted_guitar", ("comp",)),
    "guitar riff": ("distorted_guitar", ("comp",)),
    "power chord": ("distorted_guitar", ("comp",)),
    "guitar solo": ("lead_guitar", ("lead",)),
    "lead guitar": ("lead_guitar", ("lead",)),
    "electric guitar": ("clean_guitar", ("comp", "lead")),
    "clean guitar": ("clean_guitar", ("comp", "lead")),
    "guitar": ("steel_guitar", ("comp", "lead", "arp")),
    "banjo": ("koto", ("arp", "lead")),
    "koto": ("koto", ("lead", "arp")),
    "sitar": ("koto", ("lead", "arp")),
    "harp": ("harp", ("arp", "comp", "lead")),
    "violin": ("violin", ("lead",)),
    "fiddle": ("violin", ("lead",)),
    "viola": ("violin", ("lead",)),
    "cello": ("cello", ("lead", "bass")),
    "string section": ("strings", ("pad", "comp", "lead")),
    "string quartet": ("strings", ("comp", "pad")),
    "string": ("strings", ("pad", "comp", "lead")),
    "pizzicato": ("pizzicato", ("arp", "comp")),
    "flute": ("flute", ("lead",)),
    "whistle": ("flute", ("lead",)),
    "recorder": ("flute", ("lead",)),
    "clarinet": ("clarinet", ("lead",)),
    "oboe": ("oboe", ("lead",)),
    "saxophone": ("saxophone", ("lead",)),
    "sax": ("saxophone", ("lead",)),
    "muted trumpet": ("muted_trumpet", ("lead",)),
    "trumpet": ("trumpet", ("lead",)),
    "french horn": ("horn", ("lead", "pad")),
    "horn": ("horn", ("lead", "pad")),
    "trombone": ("horn", ("lead", "pad")),
    "brass": ("brass", ("lead", "pad")),
    "accordion": ("accordion", ("lead", "pad")),
    "harmonica": ("harmonica", ("lead",)),
    "organ": ("organ", ("pad", "comp", "lead")),
    "choir": ("choir", ("pad",)),
    "vocal": ("choir", ("pad",)),
    "voice": ("choir", ("pad",)),
    "pad": ("warm_pad", ("pad",)),
    "supersaw": ("supersaw", ("pad", "comp")),
    "synth lead": ("saw_lead", ("lead",)),
    "lead synth": ("saw_lead", ("lead",)),
    "arpeggio": ("synth_pluck", ("arp",)),
    "arpeggiated": ("synth_pluck", ("arp",)),
    "arp": ("synth_pluck", ("arp",)),
    "pluck": ("synth_pluck", ("lead", "arp")),
    "church bell": ("tubular_bells", ("lead", "arp")),
    "tubular bell": ("tubular_bells", ("lead", "arp")),
    "bell": ("glass_bells", ("lead", "arp")),
    "chime": ("glass_bells", ("arp", "lead")),
    "glockenspiel": ("glockenspiel", ("lead", "arp")),
    "celesta": ("celesta", ("lead", "arp")),
    "music box": ("music_box", ("lead", "arp")),
    "xylophone": ("marimba", ("lead", "arp")),
    "marimba": ("marimba", ("arp", "lead")),
    "steel drum": ("marimba", ("lead", "arp")),
    "vibraphone": ("vibraphone", ("lead", "arp")),
    "vibes": ("vibraphone", ("lead", "arp")),
    "kalimba": ("kalimba", ("arp", "lead")),
    "handpan": ("kalimba", ("arp", "lead")),
    "double bass": ("upright_bass", ("bass",)),
    "upright bass": ("upright_bass", ("bass",)),
    "contrabass": ("contrabass", ("bass",)),
    "sub bass": ("sub_bass", ("bass",)),
    "synth bass": ("synth_bass", ("bass",)),
    "808": ("deep_808", ("bass",)),
    "bass guitar": ("electric_bass", ("bass",)),
    "slap bass": ("electric_bass", ("bass",)),
}

#: What a word rules out when it stands in the negative prompt, besides the instrument it names.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "piano": ("piano", "felt_piano", "house_piano", "electric_piano"),
    "guitar": ("nylon_guitar", "steel_guitar", "clean_guitar", "distorted_guitar", "lead_guitar"),
    "distortion": ("distorted_guitar", "lead_guitar"),
    "distorted": ("distorted_guitar", "lead_guitar"),
    "string": ("strings", "violin", "cello", "contrabass", "pizzicato"),
    "orchestra": ("strings", "violin", "cello", "contrabass", "pizzicato", "horn", "trumpet", "brass"),
    "brass": ("brass", "horn", "trumpet", "muted_trumpet"),
    "bell": ("glass_bells", "tubular_bells", "glockenspiel", "celesta", "music_box"),
    "vocal": ("choir",),
    "voice": ("choir",),
    "singing": ("choir",),
    "synth": (
        "warm_pad", "glass_pad", "supersaw", "saw_lead", "square_lead", "synth_pluck", "synth_bass",
        "sub_bass",
        "deep_808", "chip_lead", "chip_pulse", "chip_bass",
    ),
    "electronic": (
        "warm_pad", "glass_pad", "supersaw", "saw_lead", "square_lead", "synth_pluck", "synth_bass",
        "sub_bass",
        "deep_808", "chip_lead", "chip_pulse", "chip_bass",
    ),
}  # fmt: skip

DRUM_WORDS = ("drum", "drums", "percussion", "beat", "rhythm section", "drumming", "kick")
BASS_WORDS = ("bass", "bassline", "low end")
LEAD_WORDS = ("melody", "lead", "solo")

#: Percussion named in the prompt brings its groove and kit when the style has none.
PERCUSSION: Mapping[str, tuple[str, str]] = {
    "taiko": ("cinematic", "orchestral"),
    "timpani": ("cinematic", "orchestral"),
    "shaker": ("shaker", "acoustic"),
    "tambourine": ("shaker", "acoustic"),
    "conga": ("bossa", "brushes"),
    "bongo": ("bossa", "brushes"),
    "brushes": ("ride", "brushes"),
    "percussion": ("shaker", "acoustic"),
    "drum machine": ("backbeat", "electronic"),
    "drum": ("backbeat", "acoustic"),
    "beat": ("boombap", "acoustic"),
}

#: Modes by mood; the first that matches wins.
MOOD_MODES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("spanish, flamenco, arabic, arabian, middle eastern, desert, exotic, egyptian", ("phrygian",)),
    ("dreamy, dream, wonder, wondrous, magical, floating, weightless, hopeful", ("lydian", "major")),
    ("mysterious, mystery, celtic, medieval, noir, smoky", ("dorian",)),
    ("sad, melancholic, melancholy, dark, gloomy, tense, suspense, suspenseful, angry, haunting", ("minor",)),
    ("haunted, scary, horror, sorrow, sorrowful, lonely, tragic, moody, ominous, somber", ("minor",)),
    ("heartbreak, heartbroken, nostalgic, rainy, aggressive", ("minor",)),
    ("bluesy, blues, swagger, gritty", ("mixolydian",)),
    ("happy, joyful, joyous, bright, cheerful, sunny, playful, uplifting, optimistic, fun", ("major",)),
    ("celebration, wedding, triumphant, warm, cozy, carefree, sweet, innocent", ("major",)),
)

#: Tempo words: a beat rate, or a factor on the style's own.
TEMPO_MARKS: Mapping[str, float] = {
    "largo": 52.0, "lento": 56.0, "adagio": 66.0, "andante": 84.0, "moderato": 106.0, "allegretto": 112.0,
    "allegro": 132.0, "vivace": 152.0, "presto": 174.0,
}  # fmt: skip
TEMPO_FACTORS: Mapping[str, float] = {
    "very slow": 0.72, "slow": 0.82, "slowly": 0.82, "downtempo": 0.86, "relaxing": 0.9, "relaxed": 0.92,
    "calm": 0.9,
    "calming": 0.9, "peaceful": 0.9, "gentle": 0.92, "sleepy": 0.85, "lazy": 0.9, "energetic": 1.1,
    "upbeat": 1.08,
    "uptempo": 1.14, "fast": 1.2, "fast-paced": 1.2, "very fast": 1.35, "frantic": 1.3, "driving": 1.08,
    "lively": 1.1, "racing": 1.25,
}  # fmt: skip

LOUDNESS_STEPS: Mapping[str, float] = {
    "calm": -0.2, "calming": -0.2, "soft": -0.2, "gentle": -0.2, "quiet": -0.25, "peaceful": -0.2,
    "relaxing": -0.15,
    "intimate": -0.2, "delicate": -0.2, "tender": -0.15, "energetic": 0.2, "powerful": 0.25, "intense": 0.25,
    "driving": 0.2, "epic": 0.2, "loud": 0.25, "massive": 0.25, "aggressive": 0.25, "explosive": 0.3,
    "anthem": 0.2,
}  # fmt: skip

DENSITY_STEPS: Mapping[str, float] = {
    "sparse": -0.35, "minimal": -0.25, "minimalist": -0.2, "simple": -0.2, "slow": -0.1, "calm": -0.1,
    "spacious": -0.2,
    "dense": 0.3, "busy": 0.3, "complex": 0.25, "virtuosic": 0.4, "fast": 0.15, "intricate": 0.3,
    "energetic": 0.15,
    "playful": 0.1, "lively": 0.15,
}  # fmt: skip

REVERB_FACTORS: Mapping[str, float] = {
    "dry": 0.25, "close": 0.6, "intimate": 0.7, "reverb": 1.6, "reverberant": 1.8, "echo": 1.6,
    "spacious": 1.6,
    "hall": 1.6, "cathedral": 2.2, "cavernous": 2.0, "atmospheric": 1.4, "ethereal": 1.5,
}  # fmt: skip

#: Words of solitude: only the instruments that are named play.
SOLO_WORDS = ("solo", "only", "alone", "unaccompanied", "just", "single", "a cappella")

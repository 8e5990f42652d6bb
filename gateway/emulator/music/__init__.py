"""Prompt and seed to sound, with numpy alone.

    composer       the way through: words, plan, score, sound, WAV
    plan           words to style, tempo, key, players (its data: ``vocabulary``, ``style``, ``styles_*``)
    form           bars, phrases and the harmony under them (``theory``)
    melody         the tune; ``accompaniment`` and ``grooves`` all that is under it
    score          what they write: notes and drum hits, in beats
    performance    plays a score with ``voices`` and ``drumkit``, made of ``synth``
    mixing         panning, echo, room, loudness, limiter, fade
    wav            the bytes of a WAV file

Every random choice comes from generators seeded with the order's own words and number.
"""

"""Prompt and seed to sound, with numpy alone.

composer     the way through: words → plan → notes → sound → WAV
wav          the bytes of a WAV file
"""

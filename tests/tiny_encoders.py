"""Tiny random encoders, as rehearsals use them."""

from lightgen.encoders.tiny import tiny_t5, tiny_vae

__all__ = ["tiny_t5", "tiny_vae"]

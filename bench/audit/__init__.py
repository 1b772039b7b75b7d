"""Does an entry hold? Verified on another day, and challenged with anybody's adversarial images."""

"""How the pocket model came to be: every step from drawn pictures to the packaged weights."""

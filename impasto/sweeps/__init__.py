"""Many runs that differ in a few settings: which ones, under which names, which are stopped early, what they tell.

Nothing here imports torch; the engine trains what is expanded here.
"""

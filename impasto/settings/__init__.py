"""From a file of settings and a command line to checked values, and back: what is wrong is said with place and fix."""

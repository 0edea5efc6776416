"""The web app: a view on run folders and the queue, served to a browser on this machine. No torch."""

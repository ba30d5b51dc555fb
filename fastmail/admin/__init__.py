"""The web server: pages over HTTP, in a process of its own (app.website). It serves those who leave a mailing list."""

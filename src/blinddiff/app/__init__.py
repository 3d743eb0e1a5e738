"""The web page: the pipeline behind a form. Needs the extra `ui`; `blinddiff.app.server` starts it."""

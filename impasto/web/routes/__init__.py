"""What the browser may ask for, by subject. Each module has one `router`; `impasto.web.app` puts them under /api."""

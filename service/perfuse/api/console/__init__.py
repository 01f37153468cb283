"""The files of the console: a page, its style, and modules that the browser loads as they are."""

"""How data sets lie on disk: one file a layout, each a function from a folder (or a list) to what it `Found`."""

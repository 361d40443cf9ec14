"""A small bookshop on the web: what the demo pushes changes to."""

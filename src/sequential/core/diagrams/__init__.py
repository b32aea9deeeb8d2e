"""Drawings of state graphs, for people: SVG for pages and files, Mermaid text for READMEs."""

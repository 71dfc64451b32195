"""Example applications; README.md in this folder tells how to run them."""

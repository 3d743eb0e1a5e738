"""The sub-commands of `blinddiff`: for each, a file with its arguments and what is done with them."""

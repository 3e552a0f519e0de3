"""The command line: commands, options, outputs."""

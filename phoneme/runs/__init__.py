"""One file a command: from settings to the files of a run directory. `phoneme/cli/` is the command line in front."""

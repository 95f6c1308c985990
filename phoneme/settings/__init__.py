"""The settings of each section of `conf/`, one dataclass each: names, types, nothing else. Imported without torch."""

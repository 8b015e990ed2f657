"""The ``gristmill`` command: its groups of commands, and the options that they share. Nothing imports it."""

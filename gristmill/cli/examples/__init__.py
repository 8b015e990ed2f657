"""What ``gristmill new plugin`` writes: one small part of each kind, to be changed into another."""

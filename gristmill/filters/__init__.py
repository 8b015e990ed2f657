"""Table stages that decide which rows stay, and say why the others do not."""

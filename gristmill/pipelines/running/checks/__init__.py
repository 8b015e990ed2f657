"""What is looked at before a run asks for anything: its directory, answers, the completion log, limits."""

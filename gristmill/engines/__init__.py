"""Where completions come from: engines, the pacing and retries around them, and the completion log."""

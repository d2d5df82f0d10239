"""One retryable unit each: read, call one plain function, commit."""

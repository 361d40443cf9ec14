"""What the shop answers, a module for each page: `PATH`, and `page()` with what to show as JSON."""

"""Using what the loop has promoted: export of the champion, and recommendations by it."""

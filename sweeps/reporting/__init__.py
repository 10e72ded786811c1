"""The report of a sweep: one HTML file, pictures, a Markdown summary."""

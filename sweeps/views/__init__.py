"""Records as people see them: tables, pictures, a terminal that follows a sweep, a notebook."""

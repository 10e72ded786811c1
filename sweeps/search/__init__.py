"""Search algorithms. One file is one: `proposals(sweep, study_file)` returns a `Proposals`."""

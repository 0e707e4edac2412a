"""Forms, boards and pictures for people: what the toolkit does, in the form Jupyter people expect."""

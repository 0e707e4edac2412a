"""What a notebook is: read and written, its parameters, its page."""

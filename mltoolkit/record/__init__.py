"""What a run leaves behind, and finding it again."""

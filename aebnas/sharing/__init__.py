"""What processes of one search share: the study's storage, a board of notes, and files."""

"""What each managing verb does: options in, library calls, facts out."""

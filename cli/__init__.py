"""What the user types: parse, forward, render, compose the parts."""

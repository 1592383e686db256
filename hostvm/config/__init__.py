"""machine.yaml as a text: kinds of values, lines, schema, edits that keep a person's comments."""

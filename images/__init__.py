"""Guest operating-system images: recipe, archive, root tree, bake, store."""

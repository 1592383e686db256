"""The guest's clock, kept at this computer's."""

"""What a study says: on the screen, as a page, as a picture, as tables for other programs."""

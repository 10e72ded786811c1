"""What leaves a sweep: the exported folder with its model card, and how fast its model is."""

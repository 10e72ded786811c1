"""What a choice has to stand before it is believed: new seeds, and the sealed test."""

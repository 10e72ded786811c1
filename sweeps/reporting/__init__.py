"""What a sweep found, for people who look before they read: one HTML file, pictures, a summary."""

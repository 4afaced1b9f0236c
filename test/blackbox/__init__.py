"""What the black-box suite drives a server with: it sees what a user sees."""

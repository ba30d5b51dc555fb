"""What still has to go out: messages, who must get them, and when the next try is due."""

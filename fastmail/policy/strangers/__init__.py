"""What this server knows of clients that nobody vouches for, before their mail's content comes: who sent good mail
lately, who guesses recipients, and how much came from whom in this hour."""

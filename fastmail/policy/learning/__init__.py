"""What users call spam, learned: words of messages, how often each was in spam and in ham, and what that says."""

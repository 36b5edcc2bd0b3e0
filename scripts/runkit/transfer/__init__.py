"""What transfer.py is made of: the study's arms, their training, scores and tables."""

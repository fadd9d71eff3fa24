"""What train.py is made of: data, schedules, checkpoints, log. At import time numpy at most."""

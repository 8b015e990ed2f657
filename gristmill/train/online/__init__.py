"""What training on a model's own samples needs: prompts, rewards, second turns, dense rewards."""

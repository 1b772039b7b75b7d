"""Adversarial Fine-tuning of Compressed Neural Networks (Thorsteinsson et al., 2024), measured again."""

"""Recipes as submissions: written from templates, and checked in seconds before anybody measures them."""

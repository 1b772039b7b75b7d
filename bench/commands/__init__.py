"""The commands that read: what there is, boards, comparisons. Importing them imports nothing that computes."""

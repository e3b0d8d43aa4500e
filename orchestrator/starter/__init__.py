"""What `rollout init` does: a first plan, the schema for editors, and all files that the plan names.

kits        which files, from a stock plan or from an endpoint that exists
companions  the texts of the files beside a plan
found       the text of a plan for an endpoint that exists
writing     putting files into a folder, and never over others or outside of it
"""

"""Pure: which VMs move where, in which order, so that hosts become empty or equally full. All of it is checked by ``proof.py``."""

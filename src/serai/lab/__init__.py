"""A virtual data center in a box: hypervisor hosts as namespaces, real QEMU guests.

Each host of a :class:`~serai.lab.plan.LabPlan` gets its own network, mount, host name, IPC and process
namespaces and its own libvirtd; the guests are real virtual machines on VXLAN networks, and they really
live-migrate over TLS. :class:`~serai.lab.lifecycle.Lab` makes it all and takes it all away again.
"""

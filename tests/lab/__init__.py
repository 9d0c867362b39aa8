"""A laboratory: several hosts as network namespaces of one machine, real daemons in each, faults on purpose."""

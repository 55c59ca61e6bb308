"""Flow records in the forms that others read: IPFIX messages and OCSF events. Pure: records in, bytes out."""

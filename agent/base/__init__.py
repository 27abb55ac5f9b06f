"""What every room stands on: values, ports, errors, whole files, the audit log."""

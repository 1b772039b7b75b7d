"""What depends on the machine: its devices, memory, float formats, runtimes and interpreters."""

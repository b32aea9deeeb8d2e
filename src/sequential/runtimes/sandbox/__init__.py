"""FetchFlow: tasks in plain Python, run in a virtual machine that can be saved at every call."""

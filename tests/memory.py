"""What a call allocates."""

from torch.profiler import ProfilerActivity, profile


def allocated(function) -> int:
    """The bytes that torch's allocator handed out while the function ran."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    sizes = [e.nbytes() for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    return sum(size for size in sizes if size > 0)

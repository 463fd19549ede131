package run

// self returns the path of this binary. It may have been replaced or removed since it was started:
// this one is there.
func self() (string, error) { return "/proc/self/exe", nil }

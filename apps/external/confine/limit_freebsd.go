package confine

// limit is the type of a limit of a process.
type limit = int64
